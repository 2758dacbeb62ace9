// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/internal/prefix"
	"github.com/weaveplugin/weave/internal/wait"
)

func nobody(netip.Addr) bool { return false }

// claimOf returns a claim of all of a subnet but its first and its last address.
func claimOf(subnet string) Claim {
	p := netip.MustParsePrefix(subnet)
	return Claim{Network: "app", Subnet: p, First: p.Addr().Next(), Last: prefix.Last(p).Prev(), Taken: nobody}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		claim  Claim
		taken  takenBlocks
		first  string
		number int
	}{
		"an empty /16":             {claimOf("10.0.0.0/16"), takenBlocks{}, "10.0.0.0/24", maxCandidates},
		"an empty /22":             {claimOf("10.0.0.0/22"), takenBlocks{}, "10.0.0.0/28", 64},
		"an empty /29":             {claimOf("10.0.0.0/29"), takenBlocks{}, "10.0.0.1/32", 6},
		"an empty /64":             {claimOf("fd00::/64"), takenBlocks{}, "fd00::/120", maxCandidates},
		"the top of the last /24":  {claimOf("255.255.255.0/24"), takenBlocks{}, "255.255.255.0/30", 64},
		"a block is somebody's":    {claimOf("10.0.0.0/22"), taken("10.0.0.0"), "10.0.0.16/28", 63},
		"an address is somebody's": {claimOf("10.0.0.0/22"), single("10.0.0.0", "10.0.0.9"), "10.0.0.16/28", 63},
		"an address of a /29":      {claimOf("10.0.0.0/29"), taken("10.0.0.1"), "10.0.0.2/32", 5},
		"nothing is free":          {claimOf("10.0.0.0/30"), taken("10.0.0.1", "10.0.0.2"), "", 0},
		"the gateway is nobody's":  {without("10.0.0.0/30", "10.0.0.1"), takenBlocks{}, "10.0.0.2/32", 1},
		"no block is in range": {
			inRange("10.0.0.0/22", "10.0.0.17", "10.0.0.30"), takenBlocks{}, "10.0.0.17/32", 14,
		},
		"the range is a block": {
			inRange("10.0.0.0/22", "10.0.0.16", "10.0.0.31"), takenBlocks{}, "10.0.0.16/28", 1,
		},
		"the last ones of a used block": {
			inRange("10.0.0.0/22", "10.0.0.1", "10.0.0.15"), single("10.0.0.0", "10.0.0.1", "10.0.0.3"),
			"10.0.0.2/32", 13,
		},
	} {
		got := tt.claim.candidates(tt.taken)
		if len(got) != tt.number || len(got) > 0 && got[0].String() != tt.first {
			t.Errorf("%s: %d candidates %v, want %d from %s on", name, len(got), got, tt.number, tt.first)
		}
	}
}

func inRange(subnet, first, last string) Claim {
	c := claimOf(subnet)
	c.First, c.Last = netip.MustParseAddr(first), netip.MustParseAddr(last)
	return c
}

func without(subnet, addr string) Claim {
	c := claimOf(subnet)
	c.Taken = func(a netip.Addr) bool { return a == netip.MustParseAddr(addr) }
	return c
}

func taken(blocks ...string) takenBlocks {
	t := takenBlocks{whole: map[netip.Addr]string{}}
	for _, b := range blocks {
		t.whole[netip.MustParseAddr(b)] = "other"
	}
	return t
}

func single(block string, addresses ...string) takenBlocks {
	of := map[netip.Addr]string{}
	for _, a := range addresses {
		of[netip.MustParseAddr(a)] = "other"
	}
	return takenBlocks{single: map[netip.Addr]map[netip.Addr]string{netip.MustParseAddr(block): of}}
}

// TestClaimsOfThreeHosts: three hosts at once get all of a subnet, each address once; what one gives back another gets.
func TestClaimsOfThreeHosts(t *testing.T) {
	t.Parallel()
	for subnet, want := range map[string]int{"10.0.0.0/28": 14, "10.0.1.0/24": 64} {
		etcd := etcdtest.Start(t, 1)
		hosts := startHosts(t, 3, etcd)
		claim := claimOf(subnet)
		for _, h := range hosts {
			h.join(Network{Name: "app", Subnets: []Subnet{{Subnet: claim.Subnet}}})
		}
		var all []string
		var mu sync.Mutex
		var group sync.WaitGroup
		for _, h := range hosts {
			group.Go(func() {
				for {
					block, err := h.ClaimBlock(t.Context(), claim)
					switch {
					case errors.Is(err, ErrExhausted):
						return
					case errors.Is(err, ErrConflict): // the others are faster
					case err != nil:
						t.Error(err)
						return
					default:
						mu.Lock()
						all = append(all, block.String())
						mu.Unlock()
					}
				}
			})
		}
		group.Wait()
		slices.Sort(all)
		if unique := slices.Compact(slices.Clone(all)); len(unique) != want || len(all) != want {
			t.Errorf("%s: claimed %d, %d of them different, want %d: %v", subnet, len(all), len(unique), want, all)
		}
		first := hosts[0].Blocks("app")[0]
		hosts[0].giveBack("app", first)
		hosts[0].await("etcd to know", func() bool { return len(hosts[0].holding.droppedOf("app")) == 0 })
		if got, err := hosts[1].ClaimBlock(t.Context(), claim); err != nil || got != first {
			t.Errorf("%s: claimed %s, %v, want the %s that was given back", subnet, got, err, first)
		}
	}
}

func (h *host) giveBack(network string, block netip.Prefix) {
	h.t.Helper()
	if err := h.GiveBack(h.t.Context(), network, []netip.Prefix{block}); err != nil {
		h.t.Error(err)
	}
}

// TestAskedForAddresses: a host that finds no address asks the others that are on the network, and gets what one of
// them gives back.
func TestAskedForAddresses(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 2, etcdtest.Start(t, 1))
	claim := claimOf("10.0.0.0/30")
	for _, h := range hosts {
		h.join(Network{Name: "app", Subnets: []Subnet{{Subnet: claim.Subnet}}})
	}
	for range 2 {
		if _, err := hosts[0].ClaimBlock(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
	}
	second := hosts[0].Blocks("app")[1]
	go func() {
		<-hosts[0].Asked()
		if got := hosts[0].TakeAsked(); len(got) != 1 || got[0] != "app" {
			t.Errorf("asked for %q, want app", got)
		}
		hosts[0].giveBack("app", second)
	}()
	own := claimOf("10.0.1.0/30")
	own.Network = "own"
	hosts[1].join(Network{Name: own.Network, Subnets: []Subnet{{Subnet: own.Subnet}}})
	for _, want := range []error{nil, nil, ErrExhausted} {
		if _, err := hosts[1].ClaimBlock(t.Context(), own); !errors.Is(err, want) {
			t.Errorf("claim of a network that the other is not on: %v, want %v", err, want)
		}
	}
	if got, err := hosts[1].ClaimBlock(t.Context(), claim); err != nil || got != second {
		t.Errorf("claimed %s, %v, want the %s that was given back", got, err, second)
	}
}

// TestClaimAddress: an address that a user names is this host's or refused with the name of the other host, and of the
// container if it is known.
func TestClaimAddress(t *testing.T) {
	t.Parallel()
	hosts := startMembers(t, 2, etcdtest.Start(t, 1))
	a, b := hosts[0], hosts[1]
	subnet := app().Subnets[0].Subnet
	claim := func(h *host, addr string, want ...string) {
		t.Helper()
		_, err := h.ClaimAddress(t.Context(), "app", subnet, netip.MustParseAddr(addr))
		if (err == nil) != (len(want) == 0) || err != nil && !errors.Is(err, ErrConflict) {
			t.Errorf("%s on %s: %v", addr, h.options.Host.Name, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want it to name %s", addr, err, w)
			}
		}
	}
	block, err := a.ClaimBlock(t.Context(), claimOf(subnet.String()))
	if err != nil || block.String() != "10.32.0.0/28" {
		t.Fatalf("claimed %s: %v", block, err)
	}
	claim(a, "10.32.0.2")
	claim(a, "10.32.1.1")
	claim(a, "10.32.1.1") // again
	claim(b, "10.32.1.2")
	b.await("host1", func() bool { return len(b.Hosts()) == 2 })
	claim(b, "10.32.1.1", "host1", "10.32.1.1")
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	b.awaitRemotes("app", "e2")
	claim(b, "10.32.0.2", "host1", "container c2")
	claim(b, "10.32.0.3", "host1", "--ip-range")
	next, err := b.ClaimBlock(t.Context(), claimOf(subnet.String()))
	if err != nil || next.String() != "10.32.0.16/28" {
		t.Errorf("claimed %s: %v", next, err)
	}
}

// TestClaimOfAHostThatLeaves: whenever a host leaves, nothing is left of what it was claiming at the same moment.
func TestClaimOfAHostThatLeaves(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	h := startHosts(t, 1, etcd)[0]
	subnet := app().Subnets[0].Subnet
	for range 20 {
		h.join(app())
		claimed := make(chan error)
		go func() {
			for {
				if _, err := h.ClaimBlock(t.Context(), claimOf(subnet.String())); err != nil {
					claimed <- err
					return
				}
			}
		}()
		h.await("block", func() bool { return len(h.Blocks("app")) > 0 })
		if err := h.Leave(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		if err := <-claimed; !errors.Is(err, ErrConflict) {
			t.Errorf("claim of a host that has left: %v, want ErrConflict", err)
		}
		if left := keysBelow(t, etcd, "weave/blocks", "weave/networks"); len(left) > 0 {
			t.Fatalf("left in etcd: %q", left)
		}
		if left := h.Blocks("app"); len(left) > 0 {
			t.Fatalf("left in the store: %v", left)
		}
	}
}

// TestGrace: what a host holds stays its own over a restart, and is another's only after the grace period. A host that
// is back after it is told what it has lost.
func TestGrace(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	short := func(o *Options) { o.Grace = 3 * time.Second }
	a, b := newHost(t, 1, etcd.URLs(), short).start(), newHost(t, 2, etcd.URLs(), nil).start()
	a.join(app())
	b.join(app())
	subnet := app().Subnets[0].Subnet
	claim := claimOf(subnet.String())
	block, err := a.ClaimBlock(t.Context(), claim)
	if err != nil {
		t.Fatal(err)
	}
	a.end()
	if second, err := b.ClaimBlock(t.Context(), claim); err != nil || second == block {
		t.Errorf("claimed %s: %v: it is the other host's", second, err)
	}
	a.start()
	a.await("what it holds after a restart", func() bool {
		return slices.Equal(a.Blocks("app"), []netip.Prefix{block})
	})
	a.end()
	b.await("end of the grace period", func() bool {
		got, err := b.ClaimBlock(t.Context(), claim)
		if err != nil && !errors.Is(err, ErrExhausted) {
			t.Fatal(err)
		}
		return got == block
	})
	a.start()
	a.await("the loss", func() bool {
		return strings.Contains(strings.Join(a.Problems(), ""), "host host2 got "+block.String())
	})
	if got := a.Blocks("app"); len(got) > 0 {
		t.Errorf("it holds %v", got)
	}
}

// TestPartition: a host that etcd has not heard of for a grace period has nothing and sees nobody any more; it goes on
// when etcd answers again.
func TestPartition(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	short := func(o *Options) { o.Grace = 3 * time.Second }
	a, b := newHost(t, 1, etcd.URLs(), short).start(), newHost(t, 2, etcd.URLs(), nil).start()
	a.join(app())
	b.join(app())
	b.SetEndpoints([]Endpoint{endpoint("app", 2)})
	a.awaitRemotes("app", "e2")
	block, err := a.ClaimBlock(t.Context(), claimOf(app().Subnets[0].Subnet.String()))
	if err != nil {
		t.Fatal(err)
	}
	etcd.Kill(t, 0)
	a.await("end of what it holds", func() bool { return len(a.Blocks("app")) == 0 })
	a.awaitRemotes("app")
	if a.Holds("app", block.Addr()) {
		t.Errorf("hands out %s, which may be another host's", block.Addr())
	}
	a.await("problem", func() bool { return strings.Contains(fmt.Sprint(a.Problems()), "its networks end here") })
	etcd.Restart(t, 0)
	a.awaitRemotes("app", "e2")
	a.await("what it held", func() bool { return slices.Equal(a.Blocks("app"), []netip.Prefix{block}) })
	a.await("end of the problems", func() bool { return len(a.Problems()) == 0 })
}

// TestRunOutByItsOwnClock: a host that takes its lease for run out claims nothing, and asks etcd, which may know
// better.
func TestRunOutByItsOwnClock(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	h := newHost(t, 1, []string{r.url()}, func(o *Options) { o.Lease = time.Minute }).start()
	h.join(app())
	claim := claimOf(app().Subnets[0].Subnet.String())
	if _, err := h.ClaimBlock(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	r.setCut(true)
	h.holding.mu.Lock()
	h.holding.end = sinceBoot() - time.Second
	h.holding.mu.Unlock()
	wait.Signal(h.holding.prolonged)
	h.await("end of what it holds", func() bool { return len(h.Blocks("app")) == 0 })
	if lease, err := h.holding.await(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("it may claim under lease %d, %v, want ErrUnreachable", lease, err)
	}
	r.setCut(false)
	h.await("what it holds", func() bool { return len(h.Blocks("app")) == 1 })
}

// TestLostAnswer: what etcd has under the id of a host that does not know of it is taken up by its next claim.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	h := startHosts(t, 1, etcd)[0]
	h.join(app())
	subnet := app().Subnets[0].Subnet
	block, err := h.ClaimBlock(t.Context(), claimOf(subnet.String()))
	if err != nil {
		t.Fatal(err)
	}
	forget := func() {
		t.Helper()
		if err := h.holding.dropBlock(t.Context(), "app", block); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	if again, err := h.ClaimBlock(t.Context(), claimOf(subnet.String())); err != nil || again != block {
		t.Errorf("claimed %s, %v, want %s, which is its own", again, err, block)
	}
	forget()
	if _, err := h.ClaimAddress(t.Context(), "app", subnet, block.Addr()); err != nil {
		t.Error(err)
	}
	if err := h.finishHolding(t.Context(), "app"); err != nil {
		t.Error(err)
	}
	if got := keysBelow(t, etcd, "weave/blocks"); len(got) != 1 {
		t.Errorf("given back though it was taken up again: %q", got)
	}
}
