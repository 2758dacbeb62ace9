// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestChangesHaveTheirCause: it comes with the context of the call that makes the change.
func TestChangesHaveTheirCause(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newIdleRig(t)
	changes, _ := r.Subscribe(100)
	defer changes.Close()
	by := func(call string) Cause { return Cause{CauseDocker, call} }
	ctx := t.Context()
	sandbox := nstest.New(t)
	for _, err := range []error{
		r.CreateNetwork(WithCause(ctx, by("CreateNetwork")), NetworkSpec{Definition: Definition{ID: netID}}),
		second(r.CreateEndpoint(WithCause(ctx, by("CreateEndpoint")), EndpointSpec{ID: epID, Network: netID})),
		second(r.Join(WithCause(ctx, by("Join")), netID, epID, sandbox.Path(), NoPorts)),
		r.Leave(WithCause(ctx, by("Leave")), netID, epID),
		r.DeleteEndpoint(ctx, netID, epID),
		r.DeleteNetwork(WithCause(ctx, Cause{Kind: CauseComparison}), netID),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for {
		c, ok, err := changes.take()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got = append(got, fmt.Sprintf("%s: %s %s", c.Kind, c.Cause.Kind, c.Cause.By))
	}
	want := []string{
		"network-made: docker CreateNetwork", "endpoint-created: docker CreateEndpoint", "endpoint-joined: docker Join",
		"endpoint-left: docker Leave", "endpoint-deleted:  ", "network-removed: comparison ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func second[T any](_ T, err error) error { return err }
