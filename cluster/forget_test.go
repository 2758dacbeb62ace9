// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// awaitGone waits until another host is not there any more, in etcd and for this one. This one alone may not have read
// yet that it is there.
func (h *host) awaitGone(id string) {
	h.t.Helper()
	h.await("end of "+id, func() bool {
		there, err := h.get(h.t.Context(), h.keys.host(id))
		return err == nil && len(there.Kvs) == 0 &&
			slices.ContainsFunc(h.Hosts(), func(s HostStatus) bool { return s.ID == id && !s.Present })
	})
}

// claimBlock claims a block, which there is.
func (h *host) claimBlock(claim Claim) netip.Prefix {
	h.t.Helper()
	block, err := h.ClaimBlock(h.t.Context(), claim)
	if err != nil {
		h.t.Fatal(err)
	}
	return block
}

// TestForget: a host that is gone leaves nothing in etcd, and what other hosts have stays; one that is there stays.
func TestForget(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startHosts(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	own := app()
	own.Name = "own"
	a.join(own)
	for _, h := range hosts {
		h.join(app())
	}
	subnet := app().Subnets[0].Subnet
	block, err := a.ClaimBlock(t.Context(), claimOf(subnet.String()))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := b.ClaimBlock(t.Context(), claimOf(subnet.String()))
	if err != nil {
		t.Fatal(err)
	}
	client := etcd.Client(t)
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2*maxOperations + 1 { // more than one transaction can remove
		addr := netip.AddrFrom4([4]byte{10, 32, 3, byte(n)})
		put(b.keys.block("app", subnet, netip.PrefixFrom(addr, 32)), a.id)
	}
	put(b.keys.wanted("own"), a.id)
	put(b.keys.wanted("app"), b.id)
	put(b.keys.endpoint("app", a.id, "left"), encode(endpoint("app", 9)))
	before := keysBelow(t, etcd, DefaultPrefix)
	for _, id := range []string{a.id, b.id} {
		if err := b.Forget(t.Context(), id); !errors.Is(err, ErrPresent) {
			t.Errorf("forget %s, which is there: %v, want ErrPresent", id, err)
		}
	}
	if diff := cmp.Diff(before, keysBelow(t, etcd, DefaultPrefix)); diff != "" {
		t.Errorf("a refusal has changed something (-before +after):\n%s", diff)
	}

	a.end()
	b.awaitGone(a.id)
	for range 2 { // again is no error
		if err := b.Forget(t.Context(), a.id); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range keysBelow(t, etcd, DefaultPrefix) {
		if strings.Contains(key, a.id) || strings.Contains(key, "own") {
			t.Errorf("%s is left", key)
		}
	}
	held, err := b.Holdings(t.Context(), "app")
	want := map[string][]netip.Prefix{b.id: {kept}}
	if diff := cmp.Diff(want, held, cmp.Comparer(samePrefix)); diff != "" || err != nil {
		t.Errorf("%v, holdings (-want +got):\n%s", err, diff)
	}
	if got := keysBelow(t, etcd, b.keys.wanted("")); !slices.Equal(got, []string{b.keys.wanted("app")}) {
		t.Errorf("wanted by %q, want the other host alone", got)
	}
	b.await("end of the host's listing", func() bool { return len(b.Hosts()) == 1 })
	if got, err := b.ClaimBlock(t.Context(), claimOf(subnet.String())); err != nil || got != block {
		t.Errorf("claimed %s, %v, want %s, which is free", got, err, block)
	}
	etcd.Kill(t, 0)
	if err := b.Forget(t.Context(), a.id); !errors.Is(err, ErrUnreachable) {
		t.Errorf("without etcd: %v, want ErrUnreachable", err)
	}
}

// TestForgottenHostWasOnlyCutOff: a host that was forgotten while it was cut off, and runs all the time, claims again
// what it had as soon as it hears of that, and says what it has lost.
func TestForgottenHostWasOnlyCutOff(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	a, b := newHost(t, 1, []string{r.url()}, nil).start(), newHost(t, 2, etcd.URLs(), nil).start()
	a.join(app())
	b.join(app())
	claim := claimOf(app().Subnets[0].Subnet.String())
	blocks := []netip.Prefix{a.claimBlock(claim), a.claimBlock(claim)}
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	b.awaitRemotes("app", "e2")
	r.setCut(true)
	b.awaitGone(a.id)
	if err := b.Forget(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	taken, err := b.ClaimBlock(t.Context(), claim)
	if err != nil || taken != blocks[0] {
		t.Fatalf("claimed %s, %v, want %s", taken, err, blocks[0])
	}
	r.setCut(false)
	b.awaitRemotes("app", "e2")
	b.await("what the host had and is free", func() bool {
		held, err := b.Holdings(t.Context(), "app")
		return err == nil && fmt.Sprint(held[a.id]) == fmt.Sprint(blocks[1:])
	})
	a.await("the loss", func() bool {
		return strings.Contains(strings.Join(a.Problems(), ""), "host host2 got "+taken.String())
	})
	a.await("what is left to it", func() bool { return slices.Equal(a.Blocks("app"), blocks[1:]) })
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	if len(a.Problems()) == 0 {
		t.Error("a container still has an address of another host, and nothing says so")
	}
	a.SetEndpoints(nil)
	a.await("end of the problem", func() bool { return len(a.Problems()) == 0 })
}

// TestForgetIsBrokenOff: a host that comes back while it is forgotten has lost a part of what it held, and others may
// have got it. It claims again what is free, and does not hand out the rest.
func TestForgetIsBrokenOff(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	a, b := newHost(t, 1, []string{r.url()}, nil).start(), newHost(t, 2, etcd.URLs(), nil).start()
	for _, h := range []*host{a, b} {
		h.join(app())
		h.join(Network{Name: "other"})
	}
	claim := claimOf(app().Subnets[0].Subnet.String())
	blocks := []netip.Prefix{a.claimBlock(claim), a.claimBlock(claim)}
	r.setCut(true)
	b.awaitGone(a.id)
	if err := b.forgetOn(t.Context(), a.id, "app"); err != nil { // as Forget does it, before the next network
		t.Fatal(err)
	}
	if got, err := b.ClaimBlock(t.Context(), claim); err != nil || got != blocks[0] {
		t.Fatalf("claimed %s, %v, want %s", got, err, blocks[0])
	}
	r.setCut(false)
	a.await("the loss", func() bool { return slices.Equal(a.Blocks("app"), blocks[1:]) })
	if err := b.Forget(t.Context(), a.id); !errors.Is(err, ErrPresent) {
		t.Errorf("forget: %v, want ErrPresent", err)
	}
	held, err := b.Holdings(t.Context(), "app")
	want := map[string][]netip.Prefix{a.id: blocks[1:], b.id: blocks[:1]}
	if diff := cmp.Diff(want, held, cmp.Comparer(samePrefix)); diff != "" || err != nil {
		t.Errorf("%v, holdings (-want +got):\n%s", err, diff)
	}
}

// TestForgetWhileItComesBack: whenever a host comes back while it is forgotten, it has all that it had in the end.
func TestForgetWhileItComesBack(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startHosts(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	a.join(app()) // as the only member, so that the network may go, too
	block, err := a.ClaimBlock(t.Context(), claimOf(app().Subnets[0].Subnet.String()))
	if err != nil {
		t.Fatal(err)
	}
	client, id := etcd.Client(t), a.id
	for range 5 {
		a.end()
		b.awaitGone(id)
		forgotten := make(chan error, 1)
		go func() { forgotten <- b.Forget(t.Context(), id) }()
		a.start()
		if err := <-forgotten; err != nil && !errors.Is(err, ErrPresent) {
			t.Fatal(err)
		}
		a.await("all of the host", func() bool {
			for _, key := range []string{
				a.keys.host(a.id), a.keys.holder(a.id), a.keys.member("app", a.id), a.keys.network("app"),
				a.keys.block("app", app().Subnets[0].Subnet, block),
			} {
				answer, err := client.Get(t.Context(), key, clientv3.WithCountOnly())
				if err != nil {
					t.Fatal(err)
				}
				if answer.Count == 0 {
					return false
				}
			}
			return len(a.Problems()) == 0
		})
	}
}
