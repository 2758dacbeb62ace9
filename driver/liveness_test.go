// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestPortLimit makes a veth pair for each of a bridge's 1,023 ports. One more fails, and succeeds after another was
// deleted.
func TestPortLimit(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	sandbox := nstest.New(t).Path() // alive, so that no endpoint is removed to free a port
	for n := range MaxPorts {
		id, _ := r.createEndpoint(netID, n)
		if _, err := r.Join(t.Context(), netID, id, sandbox, NoPorts); err != nil {
			t.Fatal(err)
		}
	}
	req := newEndpoint(netID, MaxPorts)
	if _, err := r.CreateEndpoint(t.Context(), req); !errors.Is(err, ErrFull) {
		t.Fatalf("the 1,024th endpoint: %v, want ErrFull", err)
	}
	r.delete(endpointID(7))
	if _, err := r.CreateEndpoint(t.Context(), req); err != nil {
		t.Fatalf("after one was deleted: %v", err)
	}
}

func TestStaleEndpointIsReplaced(t *testing.T) {
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

// TestDockerStartsAgain: a Docker daemon that was killed while it started a container does not keep the next daemon
// from starting the same container.
func TestDockerStartsAgain(t *testing.T) {
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
		t.Fatalf("by the next daemon: %v", err)
	}
}

func TestForgetKeepsLivingEndpoints(t *testing.T) {
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
		t.Errorf("made after the given time: %v, %v, want nothing forgotten", gone, err)
	}
	gone, err := r.Forget(t.Context(), map[EndpointID]bool{known: true}, before)
	if err != nil || !slices.Equal(gone, []EndpointID{dead}) {
		t.Errorf("forgotten %v, %v, want %v", gone, err, dead)
	}
}

// TestForgetWaitsForAStart: Docker may list an endpoint only when its container runs, and that may take longer than
// the time between two comparisons. When another Docker daemon has begun to call, nobody is starting the container any
// more.
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
