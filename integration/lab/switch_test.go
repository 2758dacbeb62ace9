// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// pings sends pings at once, and returns what ping says and the numbers of those that were answered, in the order of
// the answers.
func pings(h *lab.Host, count int, to string) (text string, answered []int) {
	text, _ = h.ExecErr("ping", "-c", strconv.Itoa(count), "-i", "0.001", "-W", "1", to) // it fails if one is lost
	for _, m := range regexp.MustCompile(`icmp_seq=(\d+) ttl`).FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		answered = append(answered, n)
	}
	return text, answered
}

// TestSwitch: what is asked of a switch happens to frames between hosts, and to no others.
func TestSwitch(t *testing.T) {
	u, sw := lab.NewSwitch(t, netip.MustParsePrefix("192.0.2.1/24"))
	var hosts []*lab.Host
	var addresses []string
	for i := range 3 {
		a := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}), 24)
		hosts = append(hosts, lab.Start(t, lab.Options{
			Name: fmt.Sprintf("host%d", i+1), NoDocker: true, Underlay: u, Address: a,
		}))
		addresses = append(addresses, a.Addr().String())
	}
	addresses = append(addresses, u.Address().String())
	one, two, three, outside := addresses[0], addresses[1], addresses[2], addresses[3]
	const count = 200
	passes := func(when string, from int, to string, want bool) {
		t.Helper()
		if _, err := hosts[from].ExecErr("ping", "-c1", "-W1", to); (err == nil) != want {
			t.Errorf("%s: host%d pings %s: %v", when, from+1, to, err)
		}
	}
	for i := range hosts {
		for _, to := range addresses {
			passes("at first", i, to, true)
		}
	}
	sw.Between("host1", "host2", lab.Cut)
	passes("a pair is cut", 0, two, false)
	passes("a pair is cut", 1, one, false)
	passes("a pair is cut", 0, three, true)
	sw.Between("host3", lab.Any, lab.Cut)
	passes("a host is cut off", 2, one, false)
	passes("a host is cut off", 2, outside, false)
	passes("a host is cut off", 1, outside, true)
	sw.Heal()
	passes("healed", 0, two, true)
	passes("healed", 2, outside, true)

	sw.Between("host1", "host2", lab.Faults{Drop: 0.5})
	if _, got := pings(hosts[0], count, two); len(got) == 0 || len(got) == count {
		t.Errorf("frames are dropped: %d of %d pings were answered", len(got), count)
	}
	if _, got := pings(hosts[0], count, three); len(got) != count {
		t.Errorf("another pair's are dropped: %d of %d pings to the third host were answered", len(got), count)
	}
	sw.Between("host1", "host2", lab.Faults{Duplicate: 0.5})
	if text, _ := pings(hosts[0], count, two); !strings.Contains(text, "DUP!") {
		t.Errorf("frames are doubled:\n%s", text)
	}
	sw.Between("host1", "host2", lab.Faults{Reorder: 0.2})
	if text, got := pings(hosts[0], count, two); slices.IsSorted(got) || strings.Contains(text, "DUP!") {
		t.Errorf("frames are overtaken: the pings were answered in order")
	}
	const late = 20 * time.Millisecond
	sw.Between("host1", "host2", lab.Faults{Delay: late})
	text := hosts[0].Exec(t, "ping", "-c1", two)
	m := regexp.MustCompile(`time=([0-9.]+) ms`).FindStringSubmatch(text)
	if ms, err := strconv.ParseFloat(m[1], 64); err != nil || ms < 2*late.Seconds()*1000 {
		t.Errorf("frames are late by %v each way:\n%s", late, text)
	}

	sw.Heal()
	hosts[0].PowerOff(t)
	hosts[0].PowerOn(t)
	passes("a host was off", 0, two, true)
	passes("a host was off", 1, one, true)
}
