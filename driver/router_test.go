// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// outsideOf are addresses that only the way by the router leads to: its own, in no subnet of the network.
var outsideOf = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128")}

// connectRouter puts a container into a network whose router it is. It has the addresses outsideOf besides.
func (r *rig) connectRouter(n int, spec EndpointSpec) (EndpointID, *nstest.NS) {
	r.t.Helper()
	spec.Router = true
	if _, err := r.CreateEndpoint(r.t.Context(), spec); err != nil {
		r.t.Fatal(err)
	}
	inside := nstest.New(r.t)
	inside.Do(r.t, func() error {
		lo, err := netlink.LinkByName("lo")
		for _, a := range outsideOf {
			err = errors.Join(err, netlink.AddrAdd(lo, gatewayAddress(a)))
		}
		return err
	})
	r.attachTo(spec.ID, inside, fmt.Sprintf("eth%d", n), Attachment{Link: containerEndName(spec.ID), Prefix: "eth"})
	return spec.ID, inside
}

// TestRouterContainer: the network's way out leads to a container, the one that is there now, and nowhere else.
func TestRouterContainer(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	spec := withGateway(netID)
	spec.Gateway = "container:vpn"
	r.createNetwork(spec)
	if link := mustLink(t, spec.bridgeName()); len(addressesOf(t, link)) != 0 {
		t.Errorf("the bridge has addresses: %v", addressesOf(t, link))
	}
	client := nstest.New(t)
	id, _ := r.createEndpoint(netID, 1)
	if _, err := r.Join(t.Context(), netID, id, client.Path(), Published); !errors.Is(err, ErrInvalid) {
		t.Errorf("Join of a container with ports: %v, want ErrInvalid", err)
	}
	r.attachByGateways(id, client, spec)
	noRouter := func() {
		t.Helper()
		// The kernel tells a moment later that the client is up.
		eventually(t, "a problem says that nothing is the router", func() bool {
			got := r.Problems(t.Context())
			return len(got) == 1 &&
				strings.Contains(got[0], "connect vpn to it with the driver option works.weave.router=true")
		})
	}
	noRouter()
	passes := func(inside *nstest.NS, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		var errs []error
		for i, to := range outsideOf {
			from := nstest.Place{NS: client, Addr: newEndpoint(netID, 1).Addresses[i].Addr()}
			errs = append(errs, nstest.Traffic(ctx, t, from, nstest.Place{NS: inside, Addr: to.Addr()}))
		}
		return errors.Join(errs...)
	}
	var gone *nstest.NS
	for n := 2; n < 4; n++ {
		router, inside := r.connectRouter(n, newEndpoint(netID, n))
		eventually(t, "the way out leads to the router", func() bool { return passes(inside, time.Second) == nil })
		second := newEndpoint(netID, 9)
		second.Router = true
		if _, err := r.CreateEndpoint(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		_, err := r.Join(t.Context(), netID, second.ID, nstest.New(t).Path(), NoPorts)
		if !errors.Is(err, ErrConflict) {
			t.Errorf("a second router: %v, want ErrConflict", err)
		}
		r.delete(second.ID)
		checkProblems(t, r)
		r.delete(router)
		gone = inside
	}
	noRouter()
	// Its link is removed after the answer.
	eventually(t, "nothing leaves without a router", func() bool { return passes(gone, time.Second) != nil })
}

// TestRouterPublishesPorts: the router itself has Docker's way out, and may have ports.
func TestRouterPublishesPorts(t *testing.T) {
	def := withGateway(netID).Definition
	def.Gateway = "container:vpn"
	ep := Endpoint{Addresses: newEndpoint(netID, 1).Addresses, Router: true, Sandbox: "/run/x"}
	if ipv4, ipv6 := def.gatewaysOf(ep); ipv4.IsValid() || ipv6.IsValid() {
		t.Errorf("the router has gateways %s, %s", ipv4, ipv6)
	}
	if got := def.wayOut(ep); got != string(GatewayDocker) {
		t.Errorf("the router's way out is %q", got)
	}
}

// TestNothingLeavesBesideARouter: a container that leaves by a router has no way out by IPv6 over another network as
// long as it is on that one.
func TestNothingLeavesBesideARouter(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	routed, beside := withGateway(networkID(1)), withGateway(networkID(2))
	routed.Gateway, beside.Gateway = "container:vpn", GatewayAuto
	beside.Pools = []Pool{
		{Subnet: netip.MustParsePrefix("10.41.0.0/16"), Gateway: netip.MustParseAddr("10.41.0.1")},
		{Subnet: netip.MustParsePrefix("fd41::/64"), Gateway: netip.MustParseAddr("fd41::1")},
	}
	r.createNetwork(routed)
	r.createNetwork(beside)
	inside := nstest.New(t)
	hasRoute := func(want bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("a way out by IPv6 beside the router: %v", want), func() bool {
			out := ""
			inside.Do(t, func() error {
				b, err := exec.Command("ip", "-6", "route", "show", "default").Output()
				out = string(b)
				return err
			})
			return strings.Contains(out, "via fd41::1") == want
		})
	}
	other := EndpointSpec{ID: endpointID(2), Network: beside.ID, Addresses: []netip.Prefix{
		netip.MustParsePrefix("10.41.0.2/16"), netip.MustParsePrefix("fd41::2/64"),
	}}
	if _, err := r.CreateEndpoint(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Join(t.Context(), beside.ID, other.ID, inside.Path(), Exposed); err != nil {
		t.Fatal(err)
	}
	r.attach(other.ID, inside, "eth0") // the same answer again
	hasRoute(true)
	id, _ := r.createEndpoint(routed.ID, 1)
	r.attachTo(id, inside, "eth1", Attachment{
		Link: containerEndName(id), Prefix: "eth",
		Gateway: routed.Pools[0].Gateway, GatewayIPv6: routed.Pools[1].Gateway,
	})
	hasRoute(false)
	if err := r.Leave(t.Context(), routed.ID, id); err != nil {
		t.Fatal(err)
	}
	hasRoute(true)
}

// TestChooseGateway: the way out of a network for which nobody has chosen one.
func TestChooseGateway(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	mustRun(t, "ip link add br0 type bridge")
	mustRun(t, "ip link add lan type bridge")
	mustRun(t, "ip link set lan up")
	mustRun(t, "ip addr add 10.77.0.1/24 dev lan")
	for name, tt := range map[string]struct {
		change func(*NetworkSpec)
		want   Gateway
		err    error
	}{
		"anything":            {func(*NetworkSpec) {}, GatewayAuto, nil},
		"internal":            {func(s *NetworkSpec) { s.Internal = true }, "", nil},
		"no gateway":          {func(s *NetworkSpec) { s.Pools = newNetwork(netID).Pools }, GatewayDocker, nil},
		"no subnet":           {func(s *NetworkSpec) { s.Pools = nil }, GatewayDocker, nil},
		"a new bridge's name": {func(s *NetworkSpec) { s.Bridge = "br7" }, GatewayAuto, nil},
		"no NAT":              {func(s *NetworkSpec) { s.NAT = NATNone }, GatewayAuto, nil},
		"foreign bridge":      {func(s *NetworkSpec) { s.Bridge = "br0" }, GatewayDocker, nil},
		"foreign, Docker's 28": {
			func(s *NetworkSpec) { s.Bridge, s.Announced = "br0", true }, "10.40.255.254,fd00:40::1", nil,
		},
		"foreign, of Swarm's": {
			func(s *NetworkSpec) { s.Bridge, s.Announced, s.Swarm = "br0", true, true }, GatewayDocker, nil,
		},
		"no NAT, no gateway": {
			func(s *NetworkSpec) { s.NAT, s.Pools = NATNone, newNetwork(netID).Pools }, "", ErrInvalid,
		},
		"host apart, foreign": {func(s *NetworkSpec) { s.HostApart, s.Bridge = true, "br0" }, "", ErrInvalid},
		"host apart, Docker's": {
			func(s *NetworkSpec) { s.HostApart, s.Gateway = true, GatewayDocker }, "", ErrInvalid,
		},
		"a subnet of the LAN's": {func(s *NetworkSpec) {
			s.Pools = []Pool{{
				Subnet: netip.MustParsePrefix("10.77.0.0/16"), Gateway: netip.MustParseAddr("10.77.255.254"),
			}}
		}, GatewayDocker, nil},
	} {
		spec := withGateway(netID)
		spec.Gateway = ""
		tt.change(&spec)
		err := r.CreateNetwork(t.Context(), spec)
		nw, _ := r.tracked.network(netID)
		if !errors.Is(err, tt.err) || nw.Gateway != tt.want {
			t.Errorf("%s: %q, %v, want %q, %v", name, nw.Gateway, err, tt.want, tt.err)
		}
		if err == nil {
			if err := r.CreateNetwork(t.Context(), spec); err != nil { // as Swarm does
				t.Errorf("%s: the same request again: %v", name, err)
			}
		}
		if err := r.DeleteNetwork(t.Context(), netID); err != nil {
			t.Error(err)
		}
	}
}

// TestExternal: what Docker says of a container's way out is told, and outlives weave.
func TestExternal(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	spec := withGateway(netID)
	r.createNetwork(spec)
	id, _ := r.createEndpoint(netID, 1)
	wayOut := func() string {
		ep, _ := r.tracked.endpoint(id)
		return spec.wayOut(ep)
	}
	set := func(external bool) {
		if err := r.SetExternal(t.Context(), netID, id, external); err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	if got := wayOut(); got != "" {
		t.Errorf("in no container: %q", got)
	}
	r.attachByGateways(id, nstest.New(t), spec)
	if got := wayOut(); got != "" {
		t.Errorf("before Docker has made it so: %q", got)
	}
	set(true)
	r.stop()
	r.start()
	if got := wayOut(); got != "10.40.255.254,fd00:40::1" {
		t.Errorf("after a restart: %q", got)
	}
	set(false)
	if got := wayOut(); got != "" {
		t.Errorf("when another network is the way out: %q", got)
	}
	if err := r.Leave(t.Context(), netID, id); err != nil {
		t.Fatal(err)
	}
	if ep, _ := r.tracked.endpoint(id); len(ep.Gateways) != 0 || ep.External {
		t.Errorf("after Leave: %+v", ep)
	}
	if err := r.SetExternal(t.Context(), netID, endpointID(77), true); err != nil {
		t.Errorf("an unknown endpoint: %v", err)
	}
}

// TestAdoptedOnAForeignBridge: an address that somebody else's bridge has is no gateway of an adopted network, and the
// router that its containers have been told stays.
func TestAdoptedOnAForeignBridge(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	mustRun(t, "ip link add br0 type bridge")
	mustRun(t, "ip addr add 10.40.0.77/16 dev br0")
	router := netip.MustParseAddr("10.40.255.254")
	told := []AdoptedEndpoint{{EndpointSpec: newEndpoint(netID, 1), Gateways: []netip.Addr{router}}}
	for name, tt := range map[string]struct {
		pools     []Pool
		endpoints []AdoptedEndpoint
		want      Gateway
	}{
		"no gateway":   {newNetwork(netID).Pools[:1], nil, GatewayDocker},
		"not answered": {withGateway(netID).Pools[:1], nil, GatewayDocker},
		"answered":     {withGateway(netID).Pools[:1], told, "10.40.255.254"},
	} {
		spec := newNetwork(netID)
		spec.Bridge, spec.Pools = "br0", tt.pools
		want := tt.pools[0].Gateway
		if err := r.adoptGateway(t.Context(), &spec, tt.endpoints); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if spec.Gateway != tt.want || spec.Pools[0].Gateway != want {
			t.Errorf("%s: %s with gateway %s, want %s with %s",
				name, spec.Gateway, spec.Pools[0].Gateway, tt.want, want)
		}
	}
}

// TestNothingLeavesByDockers: where somebody else is the router, or the host alone, Docker is told to attach no way out
// of its own to an endpoint without a gateway for IPv4.
func TestNothingLeavesByDockers(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	for gateway, want := range map[Gateway]bool{
		"fd00:40::ffff": true, "10.40.255.1": false, GatewayNative: true, GatewayAuto: false, GatewayDocker: false,
		"container:vpn": true,
	} {
		r := newIdleRig(t)
		spec := newNetwork(netID)
		spec.Gateway = gateway
		if gateway == GatewayNative || gateway == GatewayAuto || gateway.container() != "" {
			spec.Pools[1].Gateway = netip.MustParseAddr("fd00:40::1") // IPv6 alone
		}
		r.createNetwork(spec)
		id, _ := r.createEndpoint(netID, 1)
		got, err := r.Join(t.Context(), netID, id, nstest.New(t).Path(), NoPorts)
		if err != nil || got.NotByDockers != want {
			t.Errorf("%s: %+v, %v, want NotByDockers %v", gateway, got, err, want)
		}
		r.delete(id)
		if err := r.DeleteNetwork(t.Context(), netID); err != nil {
			t.Error(err)
		}
		r.stop()
	}
}

// TestRoutingIsKept: the host routes packets again soon after somebody has switched that off.
func TestRoutingIsKept(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(withGateway(netID))
	for _, sysctl := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		mustRun(t, "sysctl -qw "+sysctl+"=0")
		path := "/proc/sys/" + strings.ReplaceAll(sysctl, ".", "/")
		eventually(t, sysctl+" is 1 again", func() bool {
			value, err := os.ReadFile(path)
			return err == nil && strings.TrimSpace(string(value)) == "1"
		})
	}
}
