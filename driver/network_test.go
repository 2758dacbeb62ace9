// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/store"
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

func TestInvalidRequests(t *testing.T) {
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
			_, err := r.Join(ctx, netID, endpointID(9), "/run/x", NoPorts)
			return err
		}, ErrNotFound},
		"join on another network": {func() error {
			_, err := r.Join(ctx, other, id, "/run/x", NoPorts)
			return err
		}, ErrNotFound},
		"sandbox key with dots": {func() error {
			_, err := r.Join(ctx, netID, id, "/run/../x", NoPorts)
			return err
		}, ErrInvalid},
		"sandbox key that leads to the host": {func() error {
			link := filepath.Join(t.TempDir(), "sandbox")
			if err := os.Symlink("/proc/self/ns/net", link); err != nil {
				return err
			}
			_, err := r.Join(ctx, netID, id, link, NoPorts)
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
		t.Errorf("%d endpoints after invalid requests, want 1", n)
	}
}

// TestRepeatAfterDefaultMTUChanged: Swarm may repeat a request that leaves the MTU open after the default has changed.
func TestRepeatAfterDefaultMTUChanged(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	r.mtu = 1400
	r.createNetwork(newNetwork(netID))
}

// TestCreateAfterFailedRemoval: a network whose removal failed half way can't have new endpoints until it is created
// again, as Swarm does.
func TestCreateAfterFailedRemoval(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(underHostRules(netID))
	nw, _ := r.tracked.network(netID)
	nw.Phase = Going
	r.tracked.setNetwork(nw, Cause{})
	if err := errors.Join(r.writeNetwork(t.Context(), nw), r.setForwarding(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateEndpoint(t.Context(), newEndpoint(netID, 1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("an endpoint on it: %v, want ErrNotFound", err)
	}
	r.createNetwork(underHostRules(netID))
	r.createEndpoint(netID, 1)
	checkConsistent(t, r.Driver)
	r.stop()
	r.start()
	if len(r.Endpoints()) != 1 {
		t.Errorf("endpoints %v after the next start, want one", r.Endpoints())
	}
	checkConsistent(t, r.Driver)
}

// lateStore is a store that makes a change, but only after the call's time is over.
type lateStore struct {
	store.Store
	late    int // which change is late; the first is 1
	changes int
	end     func() // ends the call's time
}

func (s *lateStore) Apply(_ context.Context, changes ...store.Change) error {
	if s.changes++; s.changes == s.late {
		s.end()
	}
	return s.Store.Apply(context.Background(), changes...)
}

// TestNetworkThatIsWrittenTooLate: Docker was told that there is no network, so nothing of it is left.
func TestNetworkThatIsWrittenTooLate(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	st := r.store
	for late := 1; late <= 2; late++ {
		ctx, cancel := context.WithCancel(t.Context())
		r.store = &lateStore{Store: st, late: late, end: cancel}
		err := r.CreateNetwork(ctx, withMTU(netID, 1500))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("change %d is late: %v, want the end of the call's time", late, err)
		}
		records, err := st.List(t.Context(), networkKeys)
		if left := ownLinks(t); err != nil || len(records) != 0 || len(left) != 0 || len(r.Networks()) != 0 {
			t.Errorf("change %d is late: left %v, %v, %v (%v)", late, records, left, r.Networks(), err)
		}
		cancel()
	}
	r.store = st
	r.createNetwork(withMTU(netID, 1500))
}
