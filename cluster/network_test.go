// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestNetworkMadeAgain: a host that was away while a network of its was removed and made again is not on the new one,
// until it has left the old one and joined again.
func TestNetworkMadeAgain(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startHosts(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	a.join(app())
	claim := claimOf(app().Subnets[0].Subnet.String())
	block, err := a.ClaimBlock(t.Context(), claim)
	if err != nil {
		t.Fatal(err)
	}
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	a.end()
	b.awaitGone(a.id)
	if err := b.Forget(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	b.join(app())
	b.SetEndpoints([]Endpoint{endpoint("app", 3)})
	a.start()
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	a.await("problem", func() bool { return strings.Contains(fmt.Sprint(a.Problems()), "removed and made again") })
	if _, err := a.Join(t.Context(), app()); !errors.Is(err, ErrConflict) {
		t.Errorf("join: %v, want ErrConflict", err)
	}
	if _, err := a.ClaimBlock(t.Context(), claim); !errors.Is(err, ErrConflict) {
		t.Errorf("claim: %v, want ErrConflict", err)
	}
	if got := a.Blocks("app"); len(got) > 0 || a.Holds("app", block.Addr()) {
		t.Errorf("hands out %v of a network that it is not on", got)
	}
	if got := a.remoteIDs("app"); len(got) > 0 {
		t.Errorf("sees %v of a network that it is not on", got)
	}
	b.awaitRemotes("app")
	if err := a.Leave(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if got := a.Problems(); len(got) > 0 {
		t.Errorf("problems after it has left: %q", got)
	}
	a.join(app())
	b.awaitRemotes("app", "e2")
	a.awaitRemotes("app", "e3")
}
