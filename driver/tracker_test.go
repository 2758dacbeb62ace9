// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func tracked(id EndpointID) Endpoint {
	return Endpoint{ID: id, Network: netID, HostEnd: hostEndName(id), Created: time.Unix(1, 0)}
}

// drain returns what the subscription has at this moment, as "SEQ KIND".
func drain(t *testing.T, s *Subscription) (out []string) {
	t.Helper()
	for {
		c, ok, err := s.take()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		out = append(out, fmt.Sprintf("%d %s", c.Seq, c.Kind))
	}
}

func TestStateFollowsFromSandboxAndCarrier(t *testing.T) {
	for want, ep := range map[EndpointState]Endpoint{
		Created: {Carrier: true}, Joined: {Sandbox: "/run/x"}, Up: {Sandbox: "/run/x", Carrier: true},
	} {
		if got := ep.State(); got != want {
			t.Errorf("%+v is %s, want %s", ep, got, want)
		}
	}
}

// TestSnapshotHasWhatTheFeedTells: a network whose creation fails is never told of, so no snapshot may have it.
func TestSnapshotHasWhatTheFeedTells(t *testing.T) {
	tr := newTracker()
	if err := tr.claimNetwork(Network{Definition: Definition{ID: netID}}); err != nil {
		t.Fatal(err)
	}
	s, snapshot := tr.Subscribe(1)
	if len(snapshot.Networks) != 0 {
		t.Errorf("snapshot %+v has a network that is only being made", snapshot)
	}
	tr.removeNetwork(netID, Cause{})
	if got := drain(t, s); len(got) != 0 {
		t.Errorf("changes %q of a network that was never made", got)
	}
	if err := tr.claimNetwork(Network{Definition: Definition{ID: netID}}); err != nil {
		t.Fatal(err)
	}
	tr.setNetwork(Network{Definition: Definition{ID: netID}, Local: Local{Phase: Made}}, Cause{})
	if got := s.Resync().Networks; len(got) != 1 {
		t.Errorf("networks %+v, want the one that was made", got)
	}
}

// TestFeedHasEveryChange of a network and an endpoint, in order. A call that changes nothing publishes nothing.
func TestFeedHasEveryChange(t *testing.T) {
	tr := newTracker()
	s, snapshot := tr.Subscribe(100)
	if snapshot.Seq != 0 || len(snapshot.Networks)+len(snapshot.Endpoints) != 0 {
		t.Errorf("snapshot %+v of nothing", snapshot)
	}
	nw := Network{Definition: Definition{ID: netID}, Local: Local{Bridge: "br0"}}
	if err := tr.claimNetwork(nw); err != nil {
		t.Fatal(err)
	}
	nw.Phase = Made
	tr.setNetwork(nw, Cause{})
	tr.setNetwork(nw, Cause{})
	tr.addEndpoint(tracked(epID), Cause{})
	tr.setCarrier(hostEndName(epID), true) // before Join it means nothing
	joined := Endpoint{ID: epID, Sandbox: "/run/x"}
	tr.setJoined(joined, Cause{})
	tr.setJoined(joined, Cause{})
	for _, up := range []bool{true, true, false, true} {
		tr.setCarrier(hostEndName(epID), up)
		tr.setCarrier("wve-unknown", up)
	}
	if ep, _ := tr.endpoint(epID); ep.State() != Up {
		t.Errorf("endpoint %+v, want it up", ep)
	}
	tr.setJoined(Endpoint{ID: epID}, Cause{})
	if ep, _ := tr.endpoint(epID); ep.State() != Created || ep.Carrier {
		t.Errorf("endpoint %+v after it has left", ep)
	}
	tr.removeEndpoint(epID, Cause{})
	tr.removeEndpoint(epID, Cause{})
	tr.removeNetwork(netID, Cause{})
	tr.removeNetwork(netID, Cause{})
	want := []string{
		"1 network-made", "2 endpoint-created", "3 endpoint-joined",
		"4 endpoint-up", "5 endpoint-down", "6 endpoint-up",
		"7 endpoint-left", "8 endpoint-deleted", "9 network-removed",
	}
	if diff := cmp.Diff(want, drain(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.Close()
	tr.addEndpoint(tracked(epID), Cause{})
	if got := drain(t, s); got != nil {
		t.Errorf("got %v after the subscription was closed", got)
	}
}

// TestFailedNetworkIsNoChange: a network that could not be made is in no change.
func TestFailedNetworkIsNoChange(t *testing.T) {
	tr := newTracker()
	s, _ := tr.Subscribe(1)
	nw := Network{Definition: Definition{ID: netID}, Local: Local{Bridge: "br0"}}
	if err := tr.claimNetwork(nw); err != nil {
		t.Fatal(err)
	}
	other := nw
	other.ID = "ffffffffffff"
	if err := tr.claimNetwork(other); !errors.Is(err, ErrConflict) {
		t.Errorf("a bridge that is claimed: %v, want ErrConflict", err)
	}
	tr.removeNetwork(netID, Cause{})
	if got := drain(t, s); got != nil {
		t.Errorf("got %v", got)
	}
}

// TestSlowSubscriber: the writer never waits; the subscriber gets ErrMissed, reads everything again, and goes on with
// the change after that.
func TestSlowSubscriber(t *testing.T) {
	tr := newTracker()
	s, _ := tr.Subscribe(2)
	for n := range 5 {
		tr.addEndpoint(tracked(endpointID(n)), Cause{})
	}
	if c, err := s.Next(t.Context()); !errors.Is(err, ErrMissed) {
		t.Fatalf("got %+v, %v, want ErrMissed", c, err)
	}
	tr.removeEndpoint(endpointID(0), Cause{}) // is in the snapshot
	snapshot := s.Resync()
	if snapshot.Seq != 6 || len(snapshot.Endpoints) != 4 {
		t.Errorf("snapshot of change %d with %d endpoints, want 6 and 4", snapshot.Seq, len(snapshot.Endpoints))
	}
	tr.removeEndpoint(endpointID(1), Cause{})
	if got, want := drain(t, s), []string{"7 endpoint-deleted"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestConcurrentSubscribers: each gets every number once and in order, or ErrMissed; in the end it knows what is
// tracked.
func TestConcurrentSubscribers(t *testing.T) {
	tr := newTracker()
	const writers, each = 4, 200
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for _, buffer := range []int{1, 16, writers * each * 2} {
		s, snapshot := tr.Subscribe(buffer)
		group.Go(func() {
			known, last := map[EndpointID]bool{}, snapshot.Seq
			for last < writers*each*2 {
				c, err := s.Next(ctx)
				switch {
				case errors.Is(err, ErrMissed):
					snapshot = s.Resync()
					known, last = map[EndpointID]bool{}, snapshot.Seq
					for _, ep := range snapshot.Endpoints {
						known[ep.ID] = true
					}
					continue
				case err != nil:
					t.Error(err)
					return
				case c.Seq != last+1:
					t.Errorf("change %d after %d", c.Seq, last)
				}
				last = c.Seq
				if c.Kind == EndpointCreated {
					known[c.Endpoint.ID] = true
				} else {
					delete(known, c.Endpoint.ID)
				}
			}
			if len(known) != 0 {
				t.Errorf("a subscriber with a buffer of %d believes in %d endpoints", buffer, len(known))
			}
		})
	}
	for w := range writers {
		group.Go(func() {
			for n := range each {
				id := endpointID(w*each + n)
				tr.addEndpoint(tracked(id), Cause{})
				tr.removeEndpoint(id, Cause{})
			}
		})
	}
	group.Wait()
}

func TestNetworkOfTheCluster(t *testing.T) {
	tr := newTracker()
	tr.load([]Network{{Definition: Definition{ID: "n1"}}, {Definition: Definition{ID: "n2", Cluster: "app"}}}, nil)
	for name, want := range map[string]NetworkID{"app": "n2", "other": "", "": ""} {
		if nw, ok := tr.networkOf(name); nw.ID != want || ok != (want != "") {
			t.Errorf("network of the cluster %q: %q, %v, want %q", name, nw.ID, ok, want)
		}
	}
}
