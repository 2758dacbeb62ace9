// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/internal/nstest"
)

// withGateway returns a network whose bridge is the gateway.
func withGateway(id NetworkID) NetworkSpec {
	spec := newNetwork(id)
	spec.Gateway = GatewayNative
	spec.Pools[0].Gateway = netip.MustParseAddr("10.40.255.254")
	spec.Pools[1].Gateway = netip.MustParseAddr("fd00:40::1")
	return spec
}

func TestParseGateway(t *testing.T) {
	for value, want := range map[string]bool{
		"docker": true, "native": true, "auto": true,
		"10.40.0.1": true, "fd00:40::1": true, "fd00:40::1,10.40.0.1": true,
		"": false, "nat": false, "10.40.0.1/16": false, "10.40.0.1,10.40.0.2": false, "fe80::1%eth0": false,
		"::ffff:10.40.0.1": false, "0.0.0.0": false, "224.0.0.1": false, "10.40.0.1,": false,
	} {
		if got, err := parseGateway(value); (err == nil) != want || want && string(got) != value {
			t.Errorf("%q is %q, %v; taken: want %t", value, got, err, want)
		}
	}
}

func TestCheckGateway(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*NetworkSpec)
		want   bool
	}{
		"native":               {func(*NetworkSpec) {}, true},
		"one family":           {func(s *NetworkSpec) { s.Pools[1].Gateway = netip.Addr{} }, true},
		"internal":             {func(s *NetworkSpec) { s.Internal = true }, false},
		"no gateway":           {func(s *NetworkSpec) { s.Pools = newNetwork(netID).Pools }, false},
		"no subnet":            {func(s *NetworkSpec) { s.Pools = nil }, false},
		"auto":                 {func(s *NetworkSpec) { s.Gateway = GatewayAuto }, true},
		"auto, internal":       {func(s *NetworkSpec) { s.Gateway, s.Internal = GatewayAuto, true }, false},
		"a router":             {func(s *NetworkSpec) { s.Gateway = "10.40.0.1,fd00:40::9" }, true},
		"a router elsewhere":   {func(s *NetworkSpec) { s.Gateway = "10.41.0.1" }, false},
		"a router, internal":   {func(s *NetworkSpec) { s.Gateway, s.Internal = "10.40.0.1", true }, false},
		"Docker's":             {func(s *NetworkSpec) { s.Gateway = GatewayDocker }, true},
		"Docker's, internal":   {func(s *NetworkSpec) { s.Gateway, s.Internal = GatewayDocker, true }, true},
		"of an earlier weave":  {func(s *NetworkSpec) { s.Gateway = "" }, true},
		"of a record, unknown": {func(s *NetworkSpec) { s.Gateway = "tunnel" }, false},
	} {
		spec := withGateway(netID)
		tt.change(&spec)
		if err := spec.checkGateway(); (err == nil) != tt.want {
			t.Errorf("%s: %v, want it taken: %t", name, err, tt.want)
		}
	}
}

func TestGatewaysOf(t *testing.T) {
	ep := Endpoint{Addresses: newEndpoint(netID, 1).Addresses}
	for name, tt := range map[string]struct {
		gateway  Gateway
		internal bool
		ep       Endpoint
		want     string
	}{
		"native":           {GatewayNative, false, ep, "10.40.255.254 fd00:40::1"},
		"one address":      {GatewayNative, false, Endpoint{Addresses: ep.Addresses[:1]}, "10.40.255.254 invalid IP"},
		"no address":       {GatewayNative, false, Endpoint{}, "invalid IP invalid IP"},
		"Docker's":         {GatewayDocker, false, ep, "invalid IP invalid IP"},
		"an earlier weave": {"", false, ep, "invalid IP invalid IP"},
		"a router":         {"10.40.0.9", false, ep, "10.40.0.9 invalid IP"},
		"the router":       {Gateway(ep.Addresses[0].Addr().String()), false, ep, "invalid IP invalid IP"},
		"two routers":      {"fd00:40::9,10.40.0.9", false, ep, "10.40.0.9 fd00:40::9"},
	} {
		def := withGateway(netID).Definition
		def.Gateway, def.Internal = tt.gateway, tt.internal
		ipv4, ipv6 := def.gatewaysOf(tt.ep)
		if got := ipv4.String() + " " + ipv6.String(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// TestGateway: the bridge has the gateway's addresses and a MAC that stays, the host routes, and what somebody changes
// is put right.
func TestGateway(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	spec := withGateway(netID)
	r.createNetwork(spec)
	name := spec.bridgeName()
	want := []string{"10.40.255.254/16", "fd00:40::1/64", spec.linkLocal().String()}
	has := func() []string {
		var out []string
		if link, err := netlink.LinkByName(name); err == nil {
			for _, a := range addressesOf(t, link) {
				out = append(out, a.IPNet.String())
			}
		}
		return out
	}
	if got := has(); !slices.Equal(got, want) {
		t.Fatalf("the bridge has %v, want %v", got, want)
	}
	for _, path := range forwards {
		if value, err := os.ReadFile("/proc/sys/" + path); err != nil || strings.TrimSpace(string(value)) != "1" {
			t.Errorf("%s: %q, %v, want 1", path, value, err)
		}
	}
	before := mustLink(t, name).Attrs().HardwareAddr.String()
	id, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	ep, _ := r.tracked.endpoint(id)
	got, err := r.Join(t.Context(), netID, id, sandbox.Path(), NoPorts)
	if err != nil || got.Gateway.String() != "10.40.255.254" || got.GatewayIPv6.String() != "fd00:40::1" {
		t.Errorf("Join answers %+v, %v", got, err)
	}
	if got, err := r.Join(t.Context(), netID, id, sandbox.Path(), Exposed); err != nil || !got.Gateway.IsValid() {
		t.Errorf("Join of a container that exposes ports answers %+v, %v", got, err)
	}
	if _, err := r.Join(t.Context(), netID, id, sandbox.Path(), Published); !errors.Is(err, ErrInvalid) {
		t.Errorf("Join of a container that publishes ports: %v, want ErrInvalid", err)
	}
	mustRun(t, "ip link set "+ep.HostEnd+" up")
	if after := mustLink(t, name).Attrs().HardwareAddr.String(); after != before {
		t.Errorf("the bridge's MAC is %s with a port, %s before", after, before)
	}
	for _, damage := range []string{
		"ip addr flush dev " + name, "ip addr add 192.0.2.1/24 dev " + name,
		"sysctl -qw net.ipv6.conf." + name + ".disable_ipv6=1", "ip link del " + name,
	} {
		mustRun(t, damage)
		eventually(t, "addresses as before after "+damage, func() bool { return slices.Equal(has(), want) })
	}
	r.delete(id)
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if left := ownLinks(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAutoGateway: a container with ports, published or exposed, has Docker's way out.
func TestAutoGateway(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	spec := withGateway(netID)
	spec.Gateway = GatewayAuto
	r.createNetwork(spec)
	gateway, gateway6 := spec.Pools[0].Gateway, spec.Pools[1].Gateway
	for ports, want := range map[Ports]Attachment{
		NoPorts:   {Gateway: gateway, GatewayIPv6: gateway6},
		Exposed:   {},
		Published: {},
	} {
		id, _ := r.createEndpoint(netID, 1+int(ports))
		want.Link, want.Prefix = containerEndName(id), "eth"
		got, err := r.Join(t.Context(), netID, id, nstest.New(t).Path(), ports)
		if err != nil || got != want {
			t.Errorf("ports %d: Join answers %+v, %v, want %+v", ports, got, err, want)
		}
	}
}

// TestGatewayWithoutRules: where weave writes no rules, nothing would keep others out.
func TestGatewayWithoutRules(t *testing.T) {
	for mode, taken := range map[firewall.Mode]bool{
		firewall.Auto: true, firewall.IPv4Only: false, firewall.IPv6Only: false, firewall.Off: false,
	} {
		d := &Driver{firewallMode: mode}
		if err := d.checkRules(withGateway(netID).Definition); (err == nil) != taken {
			t.Errorf("--firewall=%s: %v, want it taken: %t", mode, err, taken)
		}
	}
}

// TestGatewayIsKept: over a restart, and when the state is lost and Docker does not tell the gateways, as before 28.
func TestGatewayIsKept(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	old := newRig(t)
	old.createNetwork(withGateway(netID))
	id, mac := old.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	spec := withGateway(netID)
	old.attachTo(id, sandbox, "eth0", Attachment{
		Link: containerEndName(id), Prefix: "eth", Gateway: spec.Pools[0].Gateway, GatewayIPv6: spec.Pools[1].Gateway,
	})
	old.stop()
	if report := old.start(); len(report.Problems)+len(report.Removed)+len(report.Repaired) != 0 {
		t.Errorf("after a restart: %+v", report)
	}
	old.stop()

	renewed := newRig(t)
	spec.Pools = newNetwork(netID).Pools
	known := []AdoptedEndpoint{adopted(id, mac, newEndpoint(netID, 1).Addresses, sandbox.Path())}
	if err := renewed.Adopt(t.Context(), spec, known); err != nil {
		t.Fatal(err)
	}
	nw, _ := renewed.tracked.network(netID)
	if diff := cmp.Diff(withGateway(netID).Pools, nw.Pools, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("adopted (-want +got):\n%s", diff)
	}
}

// TestGatewayOfASubnetThatIsElsewhere: the host's own way into a subnet is not taken away.
func TestGatewayOfASubnetThatIsElsewhere(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	for _, command := range []string{
		"ip link add lan type bridge", "ip link set lan up", "ip addr add 10.40.7.1/24 dev lan",
	} {
		mustRun(t, command)
	}
	if err := r.CreateNetwork(t.Context(), withGateway(netID)); !errors.Is(err, ErrConflict) {
		t.Errorf("a gateway in the subnet of the host's LAN: %v, want ErrConflict", err)
	}
	mustRun(t, "ip link add br0 type bridge")
	spec := withGateway(netID)
	spec.Bridge = "br0"
	mustRun(t, "ip link del lan")
	if err := r.CreateNetwork(t.Context(), spec); !errors.Is(err, ErrInvalid) {
		t.Errorf("an address on a bridge that is not weave's: %v, want ErrInvalid", err)
	}
	spec.Gateway = "10.40.0.1"
	if err := r.CreateNetwork(t.Context(), spec); !errors.Is(err, ErrInvalid) {
		t.Errorf("a router whose address a container could get: %v, want ErrInvalid", err)
	}
	spec.Pools[0].Reserved = []netip.Addr{netip.MustParseAddr("10.40.0.1")}
	r.createNetwork(spec)
	if got := addressesOf(t, mustLink(t, "br0")); len(got) != 0 {
		t.Errorf("br0 has %v", got)
	}
}

// TestWayOut: a container's packets leave with the host's address, tagged on the bridge or not, also when others have
// their own ideas of what may pass.
func TestWayOut(t *testing.T) {
	for _, rules := range []Firewall{FirewallNone, FirewallHost} {
		t.Run(string(rules), func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			r := newRig(t)
			filterBridges(t)
			mustRun(t, "iptables -P FORWARD DROP")
			mustRun(t, "ip6tables -P FORWARD DROP")
			spec := withGateway(netID)
			spec.Firewall = rules
			r.createNetwork(spec)
			inside, world := nstest.New(t), nstest.New(t)
			id, _ := r.createEndpoint(netID, 1)
			r.attachByGateways(id, inside, spec)
			mustRun(t, "ip link add uplink type veth peer name far")
			far := mustLink(t, "far")
			if err := netlink.LinkSetNsFd(far, world.FD()); err != nil {
				t.Fatal(err)
			}
			mustRun(t, "ip link set uplink up")
			places := map[string]string{"192.0.2.1/24": "192.0.2.2/24", "2001:db8::1/64": "2001:db8::2/64"}
			for here, there := range places {
				mustRun(t, "ip addr add "+here+" dev uplink nodad")
				world.Do(t, func() error {
					far, err := netlink.LinkByName("far")
					a, _ := netlink.ParseAddr(there)
					a.Flags = unix.IFA_F_NODAD
					if err == nil {
						err = errors.Join(netlink.LinkSetUp(far), netlink.AddrAdd(far, a))
					}
					return err
				})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for i, to := range []string{"192.0.2.2", "2001:db8::2"} {
				from := nstest.Place{NS: inside, Addr: newEndpoint(netID, 1).Addresses[i].Addr()}
				err := nstest.Traffic(ctx, t, from, nstest.Place{NS: world, Addr: netip.MustParseAddr(to)})
				if !errors.Is(err, nstest.ErrTranslated) {
					t.Errorf("to %s: %v, want that it passes with another source", to, err)
				}
			}
		})
	}
}
