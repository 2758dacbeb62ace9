// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestWhatOthersChangeIsPutRight changes each property of weave's links from outside, as other programs do: it is soon
// as it was.
func TestWhatOthersChangeIsPutRight(t *testing.T) {
	for name, tt := range map[string]struct {
		commands []string // BRIDGE and HOSTEND stand for the links
		told     string   // what the driver says was wrong
	}{
		"bridge down":          {[]string{"ip link set BRIDGE down"}, "down"},
		"bridge deleted":       {[]string{"ip link del BRIDGE"}, "missing"},
		"bridge renamed":       {[]string{"ip link set BRIDGE name mine"}, "renamed to mine"},
		"bridge's alias":       {[]string{"ip link set BRIDGE alias mine"}, `alias "mine"`},
		"bridge's mtu":         {[]string{"ip link set BRIDGE mtu 1400"}, "mtu 1400, not 1500"},
		"address on bridge":    {[]string{"ip address add 192.0.2.1/24 dev BRIDGE"}, "address 192.0.2.1/24"},
		"link-local addresses": {[]string{"ip link set BRIDGE addrgenmode eui64"}, "link-local addresses are on"},
		"bridge's IPv6":        {[]string{"sysctl -qw net.ipv6.conf.BRIDGE.disable_ipv6=0"}, "disable_ipv6 0, not 1"},
		"bridge's rp_filter":   {[]string{"sysctl -qw net.ipv4.conf.BRIDGE.rp_filter=0"}, "rp_filter 0, not 1"},
		"bridge's program":     {[]string{"tc qdisc del dev BRIDGE clsact"}, "tc programs missing"},
		"host end down":        {[]string{"ip link set HOSTEND down"}, "down"},
		"host end unplugged":   {[]string{"ip link set HOSTEND nomaster"}, "port of no bridge"},
		"host end elsewhere": {
			[]string{"ip link add br-other type bridge", "ip link set HOSTEND master br-other"},
			"port of another bridge",
		},
		"host end renamed":       {[]string{"ip link set HOSTEND name mine"}, "renamed to mine"},
		"host end's alias":       {[]string{"ip link set HOSTEND alias mine"}, `alias "mine"`},
		"host end's mtu":         {[]string{"ip link set HOSTEND mtu 1300"}, "mtu 1300, not 1500"},
		"address on host end":    {[]string{"ip address add 2001:db8::1/64 dev HOSTEND"}, "address 2001:db8::1/64"},
		"host end isolated":      {[]string{"bridge link set dev HOSTEND isolated on"}, "isolated 1, not 0"},
		"host end without flood": {[]string{"bridge link set dev HOSTEND flood off"}, "flood 0, not 1"},
		"host end not learning":  {[]string{"bridge link set dev HOSTEND learning off"}, "learning 0, not 1"},
		"host end blocked":       {[]string{"bridge link set dev HOSTEND state 1"}, "port does not forward"},
		"host end's groups": {
			[]string{"ip link set HOSTEND type bridge_slave group_fwd_mask 0"}, "group_fwd_mask 0",
		},
		"host end's programs": {[]string{"tc qdisc del dev HOSTEND clsact"}, "tc programs missing"},
		"one program":         {[]string{"tc filter del dev HOSTEND egress"}, "tc programs"},
		"bridge and host end": {[]string{"ip link del BRIDGE", "ip link set HOSTEND down"}, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			c := newTwoContainers(t, newNetwork(netID))
			c.check()
			changes, _ := c.Subscribe(100)
			defer changes.Close()
			links := strings.NewReplacer("BRIDGE", bridgeName(netID), "HOSTEND", hostEndName(endpointID(1)))
			for _, command := range tt.commands {
				mustRun(t, links.Replace(command))
			}
			awaitRepair(t, c.rig, changes, tt.told)
			eventually(t, "no problem is left", func() bool { return len(c.Problems(t.Context())) == 0 })
			c.check()
			if history := fmt.Sprint(c.Repairs()); !strings.Contains(history, tt.told) {
				t.Errorf("repairs %s, want one of %q", history, tt.told)
			}
		})
	}
}

// awaitRepair waits until the feed tells that something was wrong and is right again.
func awaitRepair(t *testing.T, r *rig, changes *Subscription, told string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, kind := range []ChangeKind{Drifted, Repaired} {
		for {
			change, err := changes.Next(ctx)
			if err != nil {
				t.Fatalf("no %s of %q: %v; problems %q", kind, told, err, r.Problems(t.Context()))
			}
			if change.Kind == kind && strings.Contains(change.What, told) {
				break
			}
		}
	}
}

// TestForeignPort: tags don't leave the host over a port that somebody else has added to a bridge of weave's.
func TestForeignPort(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	c := newTwoContainers(t, newNetwork(netID))
	for _, command := range []string{"iptables -P FORWARD DROP", "ip link add uplink type bridge",
		"ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up"} {
		mustRun(t, command)
	}
	c.check()
	outside := listenOn(t, "up1")
	mustRun(t, "ip link set up0 master "+bridgeName(netID))
	eventually(t, "a rule lets the frames pass", func() bool { return len(firewallTables(t)) > 0 })
	c.check()
	checkProblems(t, c.rig, "firewall")
	eventually(t, "a frame goes out untagged", func() bool {
		c.one.Do(t, func() error { return sendFrame(mustLink(t, "eth0"), markFrame()) })
		frame, tagged := awaitFrame(t, outside)
		return !tagged && frame[12] == markProtocol>>8
	})
	mustRun(t, "ip link set up0 nomaster")
	eventually(t, "the rule is gone again", func() bool { return len(firewallTables(t)) == 0 })
	c.check()
	checkProblems(t, c.rig)
}

// TestFilterTagged: where somebody has tagged frames filtered as well, the network needs a rule.
func TestFilterTagged(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	filterBridges(t)
	if err := os.WriteFile(filterTagged, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	r.createNetwork(newNetwork(netID))
	if len(firewallTables(t)) == 0 {
		t.Error("no rule")
	}
	checkProblems(t, r, "firewall")
	if err := os.WriteFile(filterTagged, []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Repair(t.Context(), netID); err != nil { // each minute
		t.Fatal(err)
	}
	checkProblems(t, r)
	if rules := firewallTables(t); len(rules) > 0 {
		t.Errorf("rules %q, want none", rules)
	}
}
