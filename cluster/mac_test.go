// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/internal/mac"
)

func (h *host) claimMAC(address, endpoint string) error {
	return h.ClaimMAC(h.t.Context(), "app", mac.MustParse(address), endpoint)
}

func (h *host) releaseMAC(address, endpoint string) {
	h.t.Helper()
	if err := h.ReleaseMAC(h.t.Context(), "app", mac.MustParse(address), endpoint); err != nil {
		h.t.Error(err)
	}
}

// TestMACOfTwoHostsAtOnce: of two hosts that claim a MAC at the same moment one gets it, and the other is told by whom
// it is held. It is free when it was released, and goes with the membership.
func TestMACOfTwoHostsAtOnce(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startMembers(t, 2, etcd)
	for _, h := range hosts { // whose names are told
		h.await("the other host", func() bool { return len(h.Hosts()) == 2 })
	}
	for n := range 20 {
		address := fmt.Sprintf("02:00:00:00:01:%02x", n)
		var errs [2]error
		var group sync.WaitGroup
		for i, h := range hosts {
			group.Go(func() { errs[i] = h.claimMAC(address, fmt.Sprintf("e%d", i)) })
		}
		group.Wait()
		won := slices.Index(errs[:], nil)
		if won < 0 || errs[1-won] == nil {
			t.Fatalf("both claim %s: %v", address, errs)
		}
		want := fmt.Sprintf("endpoint e%d on host host%d", won, won+1)
		if err := errs[1-won]; !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), want) {
			t.Errorf("refused with %v, want it to name %q", err, want)
		}
		hosts[won].releaseMAC(address, "another") // which has it no more: the next one has claimed it meanwhile
		if err := hosts[1-won].claimMAC(address, "e"); !errors.Is(err, ErrConflict) {
			t.Errorf("claimed although it was not released: %v", err)
		}
		hosts[won].releaseMAC(address, fmt.Sprintf("e%d", won))
		hosts[won].await("etcd to know", func() bool { return len(keysBelow(t, etcd, "weave/macs/")) == n })
		if err := hosts[1-won].claimMAC(address, "again"); err != nil {
			t.Errorf("claim of a released one: %v", err)
		}
	}
	for _, h := range hosts {
		if err := h.Leave(t.Context(), "app"); err != nil {
			t.Error(err)
		}
	}
	if left := keysBelow(t, etcd, "weave/"); slices.ContainsFunc(left, isOfANetwork) {
		t.Errorf("left when all have left: %q", left)
	}
}

func isOfANetwork(key string) bool {
	return !strings.HasPrefix(key, "weave/hosts/") && !strings.HasPrefix(key, "weave/holders/")
}

// TestMACWhileEtcdIsAway: an endpoint with a MAC that its user has named is made while etcd is away, and the MAC is
// claimed when etcd answers; if another host has it by then, both hosts keep their endpoints, and it is told.
func TestMACWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	a, b := newHost(t, 1, []string{r.url()}, nil).start(), newHost(t, 2, etcd.URLs(), nil).start()
	a.join(app())
	b.join(app())
	const free, both = "02:00:00:00:01:01", "02:00:00:00:01:02"
	r.setCut(true)
	a.await("to be cut off", func() bool { return a.Unreachable() != nil })
	for _, address := range []string{free, both} {
		if err := a.claimMAC(address, "e1"); err != nil {
			t.Fatal(err)
		}
	}
	web := endpoint("app", 2)
	web.MAC = mac.MustParse(both)
	if err := b.claimMAC(both, web.ID); err != nil {
		t.Fatal(err)
	}
	b.SetEndpoints([]Endpoint{web})
	a.end() // what it has claimed outlives weave
	r.setCut(false)
	a.start()
	a.await("the claim", func() bool { return len(keysBelow(t, etcd, "weave/macs/app/"+free)) == 1 })
	told := func() bool {
		a.holding.hurry() // as the next change or the next look would; then the other's endpoint is known
		problems := strings.Join(a.Problems(), "\n")
		return strings.Contains(problems, both) && strings.Contains(problems, "container c2 on host host2")
	}
	a.await("the conflict", told)
	a.releaseMAC(both, "e1")
	a.await("no problem", func() bool { return len(a.Problems()) == 0 })
}

// TestMACsAfterALostLease: when the holding lease was lost, MACs are claimed again with the rest; and another host that
// has this one forgotten frees them.
func TestMACsAfterALostLease(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startMembers(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	const address = "02:00:00:00:01:01"
	if err := a.claimMAC(address, "e1"); err != nil {
		t.Fatal(err)
	}
	old := a.holding.lastLease()
	// Otherwise it hears of the revocation with its next prolongation, a minute later.
	a.await("itself among those that may come back", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		_, ok := a.holders[a.id]
		return ok
	})
	if _, err := etcd.Client(t).Revoke(context.Background(), old); err != nil {
		t.Fatal(err)
	}
	a.await("another lease", func() bool { return a.holding.lastLease() != old })
	key := "weave/macs/app/" + address
	a.await("the MAC", func() bool { return len(keysBelow(t, etcd, key)) == 1 })
	answer, err := etcd.Client(t).Get(t.Context(), key)
	if err != nil || clientv3.LeaseID(answer.Kvs[0].Lease) != a.holding.lastLease() {
		t.Errorf("under which lease it is: %v, %v", answer, err)
	}
	a.end()
	b.awaitGone(a.id)
	if err := b.claimMAC(address, "e2"); !errors.Is(err, ErrConflict) {
		t.Errorf("claimed from a host that may still run: %v", err)
	}
	if err := b.Forget(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	if err := b.claimMAC(address, "e2"); err != nil {
		t.Errorf("claim from a host that is forgotten: %v", err)
	}
}
