// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// checkProblems checks that each problem begins with the text at its place.
func checkProblems(t *testing.T, r *rig, want ...string) {
	t.Helper()
	got := r.Problems(t.Context())
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		t.Errorf("problems %q, want %q", got, want)
	}
}

// TestProblemsAreOfNow: a problem is listed as long as it is there, and not after somebody has put it right.
func TestProblemsAreOfNow(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newIdleRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	r.attach(id, nstest.New(t), "eth0")
	checkProblems(t, r)

	hostEnd := mustLink(t, hostEndName(id))
	if err := netlink.LinkSetNoMaster(hostEnd); err != nil {
		t.Fatal(err)
	}
	checkProblems(t, r, "host end "+hostEndName(id))
	if _, err := r.Repair(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	checkProblems(t, r)

	if err := netlink.LinkDel(hostEnd); err != nil {
		t.Fatal(err)
	}
	checkProblems(t, r, "endpoint "+string(id))
	r.delete(id)
	if err := r.removals.wait(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	checkProblems(t, r)

	stray := &netlink.Bridge{LinkAttrs: linkNamed("wv-stray")}
	if err := netlink.LinkAdd(stray); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetAlias(stray, networkAlias(r.stateID, "ffffffffffff").String()); err != nil {
		t.Fatal(err)
	}
	checkProblems(t, r, "link wv-stray")
}

// TestIncompleteNetworkIsAProblem: a network whose removal has failed is told until it is removed or made again.
func TestIncompleteNetworkIsAProblem(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	failToDelete := func() {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		r.pause()
		r.step = func(name string) {
			if name == "erase record" {
				cancel()
			}
		}
		if err := r.DeleteNetwork(ctx, netID); err == nil {
			t.Fatal("no error")
		}
		r.step = func(string) {}
		checkProblems(t, r, "network "+string(netID))
	}
	failToDelete()
	r.createNetwork(newNetwork(netID))
	checkProblems(t, r)
	failToDelete()
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	checkProblems(t, r)
}

// TestFirewallProblemIsToldInAnyCase: also when the rest can't be found out.
func TestFirewallProblemIsToldInAnyCase(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	r.stop() // nobody sets the rules again, and the records can't be read any more
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.firewall.Set(ctx, nil); err == nil {
		t.Fatal("no error")
	}
	checkProblems(t, r, "firewall: ", "host: ")
}

// TestRepair puts one network right and touches no other.
func TestRepair(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newIdleRig(t)
	other := NetworkID(strings.Repeat("b", 64))
	r.createNetwork(newNetwork(netID))
	r.createNetwork(newNetwork(other))
	id, _ := r.createEndpoint(netID, 1)
	for _, name := range []string{bridgeName(netID), bridgeName(other)} {
		if err := netlink.LinkDel(mustLink(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	report, err := r.Repair(t.Context(), netID)
	if err != nil || len(report.Repaired) != 2 || len(report.Problems)+len(report.Removed) != 0 {
		t.Errorf("report %+v, %v, want the bridge and the host end repaired", report, err)
	}
	if mustLink(t, hostEndName(id)).Attrs().MasterIndex != mustLink(t, bridgeName(netID)).Attrs().Index {
		t.Error("the host end is no port of the bridge")
	}
	checkProblems(t, r, "bridge "+bridgeName(other))
	if report, err := r.Repair(t.Context(), netID); err != nil || len(report.Repaired) != 0 {
		t.Errorf("again: %+v, %v, want nothing to do", report, err)
	}
	if _, err := r.Repair(t.Context(), "ffffffffffff"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown network: %v, want ErrNotFound", err)
	}
}

// TestNoProblemsWhileRequestsRun asks for the problems all the time while networks and endpoints are created and
// deleted.
func TestNoProblemsWhileRequestsRun(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	ctx := t.Context()
	var requests sync.WaitGroup
	for n := range 4 {
		spec := newNetwork(networkID(n))
		if n == 0 {
			spec.Bridge = "br-app"
		}
		requests.Go(func() {
			for range 4 {
				err := r.CreateNetwork(ctx, spec)
				for i := range 8 {
					ep, createErr := r.CreateEndpoint(ctx, newEndpoint(spec.ID, 8*n+i))
					_, joinErr := r.Join(ctx, spec.ID, ep.ID, "/run/docker/netns/x", NoPorts)
					err = errors.Join(err, createErr, joinErr)
				}
				for i := range 7 { // the last one goes with its network
					err = errors.Join(err, r.DeleteEndpoint(ctx, spec.ID, endpointID(8*n+i)))
				}
				if err := errors.Join(err, r.DeleteNetwork(ctx, spec.ID)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { requests.Wait(); close(done) }()
	for looks := 0; ; looks++ {
		if found := r.Problems(ctx); len(found) > 0 {
			t.Errorf("look %d: problems %q, want none", looks, found)
		}
		select {
		case <-done:
			t.Logf("looked %d times", looks)
			checkProblems(t, r)
			return
		default:
		}
	}
}

// TestNoProblemsAtAnyStep asks for the problems before each change that a request makes: what is half done is no
// problem.
func TestNoProblemsAtAnyStep(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	ctx := t.Context()
	old := newRig(t)
	old.createNetwork(newNetwork(netID))
	left, mac := old.createEndpoint(netID, 9)
	old.stop()

	r := newRig(t)
	var steps atomic.Int32
	check := func(name string) {
		steps.Add(1)
		if found := r.Problems(ctx); len(found) > 0 {
			t.Errorf("%s: problems %q, want none", name, found)
		}
	}
	r.pause()
	r.step, r.links.step = check, check
	named := onBridge(networkID(1), "br-app")
	r.createNetwork(named)
	id, _ := r.createEndpoint(named.ID, 1)
	r.attach(id, nstest.New(t), "eth0")
	if err := r.Leave(ctx, named.ID, id); err != nil {
		t.Fatal(err)
	}
	r.delete(id)
	if err := r.DeleteNetwork(ctx, named.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.Adopt(ctx, newNetwork(netID), []AdoptedEndpoint{adopted(left, mac, nil, "")}); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Endpoints()); n != 1 {
		t.Errorf("%d endpoints adopted, want 1", n)
	}
	if n := steps.Load(); n < 20 {
		t.Errorf("looked at %d steps, want more than 20", n)
	}
}
