// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

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

// TestUnknownMembership: a host that does not know that etcd has it as a member, since it ended just then or the answer
// was lost, keeps no network from its end; nor does its join if etcd makes it as late as that.
func TestUnknownMembership(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	a := startHosts(t, 1, etcd)[0]
	awaitNothing := func() {
		t.Helper()
		a.await("end of the network", func() bool {
			return len(keysBelow(t, etcd, "weave/networks", "weave/members")) == 0
		})
	}
	for _, end := range []func(){
		func() { a.end(); a.start() },
		func() { a.holding.hurry() },
	} {
		if _, err := a.holding.await(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.joinAsMember(t.Context(), joining{Network: app()}); err != nil {
			t.Fatal(err)
		}
		end()
		awaitNothing()
	}
	self, err := a.get(t.Context(), a.keys.holder(a.id))
	if err != nil || len(self.Kvs) == 0 {
		t.Fatalf("record of this host: %v", err)
	}
	isSelf := unchanged(a.keys.holder(a.id), self.Kvs[0].ModRevision)
	if err := a.removeMember(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	late := clientv3.OpPut(a.keys.member("app", a.id), "")
	if nw, err := a.tryCreate(t.Context(), app(), []clientv3.Cmp{isSelf}, late); nw != nil || err != nil {
		t.Errorf("a late join made %v, %v", nw, err)
	}
	awaitNothing()
}

// TestNetworkOfTheDead: when all members of a network have died and their grace period is over, its subnets are free.
func TestNetworkOfTheDead(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	a := newHost(t, 1, etcd.URLs(), func(o *Options) { o.Grace = 2 * time.Second }).start()
	b := newHost(t, 2, etcd.URLs(), nil).start()
	a.join(app())
	other := Network{Name: "other", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.33.0.0/22")}}}
	b.join(other)
	a.end()
	want := []netip.Prefix{other.Subnets[0].Subnet}
	b.await("free subnets", func() bool {
		got, err := b.Subnets(t.Context())
		return err == nil && slices.Equal(got, want)
	})
	if got := keysBelow(t, etcd, "weave/networks", "weave/vnis"); len(got) != 2 {
		t.Errorf("%q, want those of the other network alone", got)
	}
}
