package driver

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestLifeOfANetwork(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(withMTU(netID, 9000))
	r.createNetwork(withMTU(netID, 9000)) // again
	if err := r.CreateNetwork(t.Context(), withMTU(netID, 1400)); !errors.Is(err, ErrConflict) {
		t.Errorf("another request with the same id: %v, want ErrConflict", err)
	}
	bridge := mustLink(t, bridgeName(netID))
	id, mac := r.createEndpoint(netID, 1)
	if _, again := r.createEndpoint(netID, 1); again != mac {
		t.Errorf("MAC %s and again %s for one endpoint", mac, again)
	}
	hostEnd := mustLink(t, hostEndName(id))
	containerEnd := mustLink(t, containerEndName(id))
	if hostEnd.Attrs().MasterIndex != bridge.Attrs().Index || hostEnd.Attrs().OperState == netlink.OperNotPresent {
		t.Errorf("host end %+v, want a port of the bridge", hostEnd.Attrs())
	}
	if got := containerEnd.Attrs().HardwareAddr.String(); got != mac.String() {
		t.Errorf("container end's MAC %s, want %s", got, mac)
	}
	sandbox := nstest.New(t)
	r.attach(id, sandbox, "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := r.tracked.endpoint(id); return ep.State() == Up })
	for _, l := range []netlink.Link{bridge, hostEnd} {
		now := mustLink(t, l.Attrs().Name)
		if got := addressesOf(t, now); len(got) != 0 || now.Attrs().MTU != 9000 {
			t.Errorf("%s: addresses %v, mtu %d, want none and 9000", l.Attrs().Name, got, now.Attrs().MTU)
		}
	}
	for range 2 {
		if err := r.Leave(t.Context(), netID, id); err != nil {
			t.Fatal(err)
		}
	}
	r.delete(id)
	for range 2 {
		if err := r.DeleteNetwork(t.Context(), netID); err != nil {
			t.Fatal(err)
		}
	}
	if left := ownLinks(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefusals(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	ctx := t.Context()
	other := NetworkID(strings.Repeat("b", 64))
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	clashing := newEndpoint(netID, 1)
	clashing.ID = endpointID(2)
	foreign := newEndpoint(netID, 3)
	foreign.Addresses[0] = netip.MustParsePrefix("10.41.0.1/16")
	unknown := newEndpoint(other, 4)
	changed := newEndpoint(netID, 5)
	changed.ID = id
	for name, tt := range map[string]struct {
		call func() error
		want error
	}{
		"unknown network":     {func() error { _, err := r.CreateEndpoint(ctx, unknown); return err }, ErrNotFound},
		"address in use":      {func() error { _, err := r.CreateEndpoint(ctx, clashing); return err }, ErrConflict},
		"foreign address":     {func() error { _, err := r.CreateEndpoint(ctx, foreign); return err }, ErrInvalid},
		"same id, other data": {func() error { _, err := r.CreateEndpoint(ctx, changed); return err }, ErrConflict},
		"join unknown": {func() error {
			_, err := r.Join(ctx, netID, endpointID(9), "/run/x")
			return err
		}, ErrNotFound},
		"join on another network": {func() error {
			_, err := r.Join(ctx, other, id, "/run/x")
			return err
		}, ErrNotFound},
		"sandbox key with dots": {func() error {
			_, err := r.Join(ctx, netID, id, "/run/../x")
			return err
		}, ErrInvalid},
		"two networks on one bridge": {func() error {
			if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed("br0")}); err != nil {
				return err
			}
			if err := r.CreateNetwork(ctx, onBridge(NetworkID(strings.Repeat("c", 64)), "br0")); err != nil {
				return err
			}
			return r.CreateNetwork(ctx, onBridge(other, "br0"))
		}, ErrConflict},
		"a bridge that is none": {func() error { return r.CreateNetwork(ctx, onBridge(other, "lo")) }, ErrConflict},
	} {
		if err := tt.call(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	for name, err := range map[string]error{
		"leave":           r.Leave(ctx, other, endpointID(9)),
		"delete endpoint": r.DeleteEndpoint(ctx, other, endpointID(9)),
		"delete network":  r.DeleteNetwork(ctx, other),
	} {
		if err != nil {
			t.Errorf("%s of what is unknown: %v, want success", name, err)
		}
	}
	if n := len(r.Endpoints()); n != 1 {
		t.Errorf("%d endpoints after refusals, want 1", n)
	}
}

// TestForeignBridgeIsUsedAndKept: one that was there before is used, never changed, never deleted.
func TestForeignBridgeIsUsedAndKept(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed("br0")}); err != nil {
		t.Fatal(err)
	}
	before := mustLink(t, "br0").Attrs()
	r.createNetwork(onBridge(netID, "br0"))
	id, _ := r.createEndpoint(netID, 1)
	if got := mustLink(t, hostEndName(id)).Attrs().MasterIndex; got != before.Index {
		t.Errorf("host end is a port of link %d, want of %d", got, before.Index)
	}
	r.stop()
	r.start()
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	after := mustLink(t, "br0").Attrs()
	if after.Alias != "" || after.Flags != before.Flags {
		t.Errorf("foreign bridge changed: alias %q, flags %v, want none and %v", after.Alias, after.Flags, before.Flags)
	}
	if left := ownLinks(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	r.createNetwork(onBridge(netID, "br1"))
	if mustLink(t, "br1").Attrs().Alias == "" {
		t.Error("a named bridge that weave made carries no alias")
	}
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if l, err := findLink("br1"); l != nil || err != nil {
		t.Errorf("a named bridge that weave made is still there (%v)", err)
	}

	// Somebody puts another bridge in the place of one of weave's.
	r.createNetwork(onBridge(netID, "br1"))
	if err := netlink.LinkDel(mustLink(t, "br1")); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed("br1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateEndpoint(t.Context(), newEndpoint(netID, 2)); !errors.Is(err, ErrConflict) {
		t.Errorf("an endpoint on it: got %v, want ErrConflict", err)
	}
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if got := mustLink(t, "br1").Attrs(); got.Alias != "" || got.Flags&net.FlagUp != 0 {
		t.Errorf("it was changed: alias %q, flags %v", got.Alias, got.Flags)
	}
}

// TestPortLimit makes veth pairs on all of a bridge's ports: the 1,023rd is given, the 1,024th refused, and one that has
// gone makes room.
func TestPortLimit(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	sandbox := nstest.New(t).Path() // alive, so that none of them gives way
	for n := range maxPorts {
		id, _ := r.createEndpoint(netID, n)
		if _, err := r.Join(t.Context(), netID, id, sandbox); err != nil {
			t.Fatal(err)
		}
	}
	req := newEndpoint(netID, maxPorts)
	if _, err := r.CreateEndpoint(t.Context(), req); !errors.Is(err, ErrFull) {
		t.Fatalf("the 1,024th endpoint: %v, want ErrFull", err)
	}
	r.delete(endpointID(7))
	if _, err := r.CreateEndpoint(t.Context(), req); err != nil {
		t.Fatalf("after one was deleted: %v", err)
	}
}

func TestStaleEndpointGivesWay(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	r.attach(id, sandbox, "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := r.tracked.endpoint(id); return ep.State() == Up })
	clashing := newEndpoint(netID, 1)
	clashing.ID = endpointID(2)
	if _, err := r.CreateEndpoint(t.Context(), clashing); !errors.Is(err, ErrConflict) {
		t.Fatalf("address of a living endpoint: %v, want ErrConflict", err)
	}
	if err := netlink.LinkDel(mustLink(t, hostEndName(id))); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateEndpoint(t.Context(), clashing); err != nil {
		t.Fatalf("address of an endpoint without a link: %v", err)
	}
	if got := r.Endpoints(); len(got) != 1 || got[0].ID != endpointID(2) {
		t.Errorf("endpoints %+v, want the new one only", got)
	}
}

// TestDockerStartsAnew: what an engine had under way when it was killed does not keep the next one from starting the
// same container again.
func TestDockerStartsAnew(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	r.createEndpoint(netID, 1)
	again := newEndpoint(netID, 1)
	again.ID = endpointID(2)
	if _, err := r.CreateEndpoint(t.Context(), again); !errors.Is(err, ErrConflict) {
		t.Fatalf("while the first one may be starting: %v, want ErrConflict", err)
	}
	r.DockerStarted()
	if _, err := r.CreateEndpoint(t.Context(), again); err != nil {
		t.Fatalf("by the next engine: %v", err)
	}
}

func TestForgetRemovesOnlyTheDead(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	known, _ := r.createEndpoint(netID, 1)
	living, _ := r.createEndpoint(netID, 2)
	dead, _ := r.createEndpoint(netID, 3)
	r.attach(living, nstest.New(t), "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := r.tracked.endpoint(living); return ep.State() == Up })
	if err := netlink.LinkDel(mustLink(t, hostEndName(dead))); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if gone, err := r.Forget(t.Context(), nil, before.Add(-time.Hour)); err != nil || len(gone) != 0 {
		t.Errorf("younger than the reading: %v, %v, want nothing forgotten", gone, err)
	}
	gone, err := r.Forget(t.Context(), map[EndpointID]bool{known: true}, before)
	if err != nil || !slices.Equal(gone, []EndpointID{dead}) {
		t.Errorf("forgotten %v, %v, want %v", gone, err, dead)
	}
}

// TestForgetWaitsForAStart: Docker may list an endpoint only when its container runs, and that may take longer than the
// time between two comparisons. When another Docker daemon has begun to call, nobody is starting the container any more.
func TestForgetWaitsForAStart(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	if gone, err := r.Forget(t.Context(), nil, time.Now()); err != nil || len(gone) != 0 {
		t.Errorf("while it may be starting: %v, %v, want nothing forgotten", gone, err)
	}
	r.DockerStarted()
	if gone, err := r.Forget(t.Context(), nil, time.Now()); err != nil || !slices.Equal(gone, []EndpointID{id}) {
		t.Errorf("by the next Docker: forgotten %v, %v, want %v", gone, err, id)
	}
}

func TestReclaimable(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	req := newNetwork(netID)
	req.Pools[0].Gateway = netip.MustParseAddr("10.40.0.1")
	req.Pools[0].Reserved = []netip.Addr{netip.MustParseAddr("10.40.0.9")}
	r.createNetwork(req)
	living, _ := r.createEndpoint(netID, 1)
	dead, _ := r.createEndpoint(netID, 2)
	r.attach(living, nstest.New(t), "eth0")
	if err := netlink.LinkDel(mustLink(t, hostEndName(dead))); err != nil {
		t.Fatal(err)
	}
	gone, _ := r.createEndpoint(netID, 4)
	r.delete(gone)
	subnet, long, now := netip.MustParsePrefix("10.40.0.0/16"), time.Now().Add(-time.Hour), time.Now()
	check := func(space, addr string, since time.Time, want bool, what string) {
		t.Helper()
		if got := r.Reclaimable(space, subnet, netip.MustParseAddr(addr), since); got != want {
			t.Errorf("%s reclaimable: %v, want %v: %s", addr, got, want, what)
		}
	}
	check("LocalDefault", "10.40.0.1", long, false, "gateway")
	check("LocalDefault", "10.40.0.9", long, false, "auxiliary")
	check("LocalDefault", "10.40.0.2", long, false, "of a living endpoint")
	check("LocalDefault", "10.40.0.3", long, true, "of a dead one")
	check("LocalDefault", "10.40.0.4", long, true, "of none")
	check("LocalDefault", "10.40.0.4", now, false, "of none yet")
	check("LocalDefault", "10.40.0.5", long, false, "of one that was deleted: Docker is about to release it")
	check("other", "10.40.0.4", long, false, "of a pool that no network has")
	r.DockerStarted() // what the engine before it was about to do, it does not do any more
	check("LocalDefault", "10.40.0.4", now, true, "of none, held for the engine before")
	check("LocalDefault", "10.40.0.5", long, true, "of one that was deleted for the engine before")
}
