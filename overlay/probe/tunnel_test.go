// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestFaults: each fault of the underlay is found, by both hosts, and gone when it is mended.
func TestFaults(t *testing.T) {
	for name, ipv6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire, hosts := bridged(t, ipv6)
			one, two := hosts[0], hosts[1]
			one.start()
			two.start()
			check := func(at1, at2 Fault) {
				t.Helper()
				one.finds(two, at1)
				two.finds(one, at2)
			}
			do := func(commands ...string) {
				t.Helper()
				wire.Do(t, func() error { return nstest.Run(commands...) })
			}
			check(None, None)
			if r := one.Results()[two.self.ID]; r.RoundTrip == 0 || r.Text != "" || len(one.Problems()) > 0 {
				t.Errorf("%+v and problems %q where nothing is wrong", r, one.Problems())
			}
			for _, f := range []struct {
				name, rule string
				at1, at2   Fault
			}{
				{"the port is blocked", "udp dport 7789 drop", Blocked, Blocked},
				{"it is blocked in one direction", "iifname host1 udp dport 7789 drop", BlockedOut, Blocked},
				{"large packets don't pass", "udp length > 1200 drop", MTUOut, MTUOut},
				{"they don't in one direction", "iifname host2 udp length > 1200 drop", MTUIn, MTUOut},
				// The protocol of the IPv4 packet inside is 39 bytes behind the beginning of the UDP header.
				{"large packets with TCP inside don't pass", "udp length > 1200 @th,312,8 6 drop", Loss, Loss},
			} {
				t.Run(f.name, func(t *testing.T) {
					do("nft add rule bridge t f " + f.rule)
					check(f.at1, f.at2)
					do("nft flush chain bridge t f")
					check(None, None)
				})
			}
			do("ip link set host1 mtu 1400", "ip link set host2 mtu 1400")
			check(MTUOut, MTUOut)
			if p := strings.Join(one.Problems(), "\n"); !strings.Contains(p, "tunnel to host host2 ") ||
				!strings.Contains(p, "MTU 1430 of the networks") {
				t.Errorf("problems %q, want one that names the host and the MTU", p)
			}
			do("ip link set host1 mtu 1500", "ip link set host2 mtu 1500")
			check(None, None)
		})
	}
}
