// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// TestAdopt: a plugin that was installed again adopts what Docker says is its own, and the container keeps its links.
func TestAdopt(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	old := newRig(t)
	old.createNetwork(newNetwork(netID))
	id, mac := old.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	old.attach(id, sandbox, "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := old.tracked.endpoint(id); return ep.State() == Up })
	ep, _ := old.tracked.endpoint(id)
	index := mustLink(t, ep.HostEnd).Attrs().Index
	old.stop()

	renewed := newRig(t)
	known := []AdoptedEndpoint{
		adopted(id, mac, ep.Addresses, sandbox.Path()),
		adopted(endpointID(2), mac, nil, sandbox.Path()), // it has no host end
	}
	for range 2 {
		if err := renewed.Adopt(t.Context(), newNetwork(netID), known); err != nil {
			t.Fatal(err)
		}
	}
	got, ok := renewed.tracked.endpoint(id)
	if !ok || got.State() != Up || len(renewed.Endpoints()) != 1 {
		t.Errorf("adopted %+v of %d, want one that is up", got, len(renewed.Endpoints()))
	}
	if mustLink(t, ep.HostEnd).Attrs().Index != index {
		t.Error("the host end is another one")
	}
	renewed.stop()
	report := renewed.start()
	if len(report.Problems)+len(report.Removed)+len(report.Repaired) != 0 || report.Endpoints != 1 {
		t.Errorf("after a restart: %+v", report)
	}
}

// TestAdoptAfterDelete: an endpoint was deleted after Docker's list was read, and its veth pair is still being
// removed.
func TestAdoptAfterDelete(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, mac := r.createEndpoint(netID, 1)
	r.removals.kernel.Lock() // so that the removal takes as long as this test wants
	r.delete(id)
	result := make(chan error)
	go func() {
		result <- r.Adopt(t.Context(), newNetwork(netID), []AdoptedEndpoint{adopted(id, mac, nil, "")})
	}()
	r.removals.kernel.Unlock()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if got := r.Endpoints(); len(got) != 0 {
		t.Errorf("endpoints %+v, want none", got)
	}
}

// TestAdoptedByAnother: a state still owns what another state has adopted from it, since Docker's ids are the same.
func TestAdoptedByAnother(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	first := newRig(t)
	first.createNetwork(newNetwork(netID))
	id, mac := first.createEndpoint(netID, 1)
	other := newRig(t)
	if err := other.Adopt(t.Context(), newNetwork(netID), []AdoptedEndpoint{adopted(id, mac, nil, "")}); err != nil {
		t.Fatal(err)
	}
	other.stop()
	first.createEndpoint(netID, 2)
	if got := mustLink(t, bridgeName(netID)).Attrs().Alias; got != networkAlias(first.stateID, netID).String() {
		t.Errorf("alias %q, want the first state's", got)
	}
	for _, id := range []EndpointID{id, endpointID(2)} {
		first.delete(id)
	}
	if err := first.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if left := ownLinks(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAdoptGoesOn: an endpoint that can't be adopted does not keep the others from it.
func TestAdoptGoesOn(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	old := newRig(t)
	old.createNetwork(newNetwork(netID))
	bad, _ := old.createEndpoint(netID, 1)
	good, macOfGood := old.createEndpoint(netID, 2)
	renewed := newRig(t)
	known := []AdoptedEndpoint{adopted(bad, mac.Address{}, nil, ""), adopted(good, macOfGood, nil, "")}
	if err := renewed.Adopt(t.Context(), newNetwork(netID), known); !errors.Is(err, ErrInvalid) {
		t.Errorf("an endpoint with a bad MAC: %v, want ErrInvalid", err)
	}
	if got := renewed.Endpoints(); len(got) != 1 || got[0].ID != good {
		t.Errorf("adopted %+v, want the other one", got)
	}
}

// TestFailedAdoptionKeepsTraffic makes each step of an adoption fail in turn and starts weave again: the containers
// keep their bridge and their host ends, and the adoption succeeds when it is repeated.
func TestFailedAdoptionKeepsTraffic(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	old := newRig(t)
	old.createNetwork(newNetwork(netID))
	id, mac := old.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	old.attach(id, sandbox, "eth0")
	old.stop()
	ep, _ := old.tracked.endpoint(id)
	bridge, hostEnd := mustLink(t, bridgeName(netID)), mustLink(t, ep.HostEnd)

	request := []AdoptedEndpoint{adopted(id, mac, ep.Addresses, sandbox.Path())}
	for n := 1; ; n++ {
		r := newRig(t)                 // another state each time
		spec := withMTU(netID, 1400+n) // so that the bridge is changed after it has got this state's alias
		ctx, f := r.failAt(n)
		err := r.Adopt(ctx, spec, request)
		if !f.end() {
			if n < 4 || err != nil {
				t.Fatalf("%d steps, %v, want more and no error", n-1, err)
			}
			return
		}
		if err == nil {
			t.Errorf("no error though step %d fails: %s", n, f.name)
		}
		r.stop()
		if report := r.start(); len(report.Removed) != 0 {
			t.Errorf("%s failed, then at the next start: %+v, want nothing removed", f.name, report)
		}
		if err := r.Adopt(t.Context(), spec, request); err != nil {
			t.Errorf("%s failed, then repeated: %v", f.name, err)
		}
		for _, before := range []netlink.Link{bridge, hostEnd} {
			now := mustLink(t, before.Attrs().Name)
			if now.Attrs().Index != before.Attrs().Index || now.Attrs().MasterIndex != before.Attrs().MasterIndex {
				t.Fatalf("%s failed: %s was %+v and is %+v", f.name, now.Attrs().Name, before.Attrs(), now.Attrs())
			}
		}
		eventually(t, "the host end gets the network's MTU", func() bool { return len(r.Problems(t.Context())) == 0 })
		r.stop()
	}
}
