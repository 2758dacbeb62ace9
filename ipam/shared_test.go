// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/store"
)

// newShared returns the IPAMs of n hosts of one cluster.
func newShared(t *testing.T, n int) []*fixture {
	t.Helper()
	etcd := etcdtest.Start(t, 1)
	var out []*fixture
	for i := range n {
		state, err := store.OpenBolt(t.Context(), filepath.Join(t.TempDir(), "cluster.db"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := cluster.Open(t.Context(), cluster.Options{
			Endpoints: etcd.URLs(), Prefix: cluster.DefaultPrefix, Lease: time.Second, Grace: time.Hour, Store: state,
			Log: quiet(), Host: cluster.Host{
				ID: fmt.Sprintf("%016d", i), Name: fmt.Sprintf("host%d", i),
				VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.SetEndpoints(nil)
		f := newFixture(t, Options{Cluster: c})
		ctx, cancel := context.WithCancel(context.Background())
		var group sync.WaitGroup
		for _, run := range []func(context.Context) error{c.Run, f.Run} {
			group.Go(func() {
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		t.Cleanup(func() {
			cancel()
			group.Wait()
			if err := errors.Join(c.Close(), state.Close()); err != nil {
				t.Error(err)
			}
		})
		out = append(out, f)
	}
	return out
}

// all requests addresses until there is none left.
func (f *fixture) all(id PoolID) (addresses []netip.Addr) {
	f.t.Helper()
	for {
		got, err := f.RequestAddress(f.t.Context(), id, netip.Addr{})
		if errors.Is(err, ErrPoolExhausted) {
			return addresses
		}
		if err != nil {
			f.t.Error(err)
			return addresses
		}
		addresses = append(addresses, got.Addr())
	}
}

// TestSharedPool: hosts that name the same network get the same subnet and the same gateway, and never the same
// address; and each address of the pool can be had.
func TestSharedPool(t *testing.T) {
	hosts := newShared(t, 3)
	for network, tt := range map[string]struct {
		subnet string
		usable int
	}{"small": {"10.99.0.0/28", 14}, "large": {"10.99.4.0/24", 254}} {
		first := hosts[0].pool(PoolRequest{Subnet: netip.MustParsePrefix(tt.subnet), Network: network})
		var all []netip.Addr
		var mu sync.Mutex
		var group sync.WaitGroup
		for _, f := range hosts {
			p := first
			if f != hosts[0] {
				p = f.pool(PoolRequest{Network: network})
			}
			if p.Subnet != first.Subnet {
				t.Errorf("%s: subnet %s, want the %s of the first host", network, p.Subnet, first.Subnet)
			}
			gateway, err := f.RequestGateway(t.Context(), p.ID, netip.Addr{})
			if want := first.Subnet.Addr().Next(); err != nil || gateway.Addr() != want {
				t.Errorf("%s: gateway %s, %v, want %s", network, gateway, err, want)
			}
			group.Go(func() {
				got := f.all(p.ID)
				mu.Lock()
				all = append(all, got...)
				mu.Unlock()
			})
		}
		group.Wait()
		slices.SortFunc(all, netip.Addr.Compare)
		unique := len(slices.Compact(slices.Clone(all)))
		if unique != len(all) || unique != tt.usable-1 {
			t.Errorf("%s: %d addresses, %d of them different, want %d", network, len(all), unique, tt.usable-1)
		}
	}
}

// TestSharedPoolMoves: what one host releases another gets, when it has no other, and the pool goes with its last
// host.
func TestSharedPoolMoves(t *testing.T) {
	hosts := newShared(t, 2)
	subnet := netip.MustParsePrefix("10.99.0.0/29")
	a := hosts[0].pool(PoolRequest{Subnet: subnet, Network: "app"}).ID
	b := hosts[1].pool(PoolRequest{Network: "app"}).ID
	held := hosts[0].all(a)
	if len(held) != 5 { // without the first, which is kept for a gateway
		t.Fatalf("the first host got %v", held)
	}
	for n := range 20 {
		from, to, fromID, toID := hosts[0], hosts[1], a, b
		if n%2 == 1 {
			from, to, fromID, toID = to, from, toID, fromID
		}
		if err := from.ReleaseAddress(t.Context(), fromID, held[2]); err != nil {
			t.Fatal(err)
		}
		got, err := to.RequestAddress(t.Context(), toID, netip.Addr{})
		if err != nil || got.Addr() != held[2] {
			t.Fatalf("round %d: the other host got %s, %v, want %s", n, got, err, held[2])
		}
	}
	if _, err := hosts[1].RequestAddress(t.Context(), b, held[0]); !errors.Is(err, cluster.ErrConflict) ||
		!strings.Contains(err.Error(), "host0") {
		t.Errorf("an address of the other host: %v, want an error that names it", err)
	}
	for i, id := range []PoolID{a, b} {
		if err := hosts[i].ReleasePool(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	other := netip.MustParsePrefix("10.98.0.0/29")
	if p := hosts[0].pool(PoolRequest{Subnet: other, Network: "app"}); p.Subnet != other {
		t.Errorf("made again with %s, want %s", p.Subnet, other)
	}
}

// TestNamedAddressIsGivenBack: an address that a user names may be given back to another host between its claim and its
// hand-out. It is not handed out then: the other host may have it by now.
func TestNamedAddressIsGivenBack(t *testing.T) {
	f := newShared(t, 1)[0]
	subnet, addr := netip.MustParsePrefix("10.99.0.0/28"), netip.MustParseAddr("10.99.0.5")
	id := f.pool(PoolRequest{Subnet: subnet, Network: "app"}).ID
	if _, err := f.options.Cluster.ClaimAddress(t.Context(), "app", subnet, addr); err != nil {
		t.Fatal(err)
	}
	if err := f.giveBack(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.requestAddress(t.Context(), addressRequest{pool: id, addr: addr}); !errors.Is(err, errNoBlock) {
		t.Errorf("handed out: %s, %v, want errNoBlock", got, err)
	}
	f.address(id, addr.String(), "10.99.0.5/28")
	f.address(id, "10.99.0.1", "10.99.0.1/28") // the gateway's, as long as there is none
	f.release(id, "10.99.0.1")
	if got, err := f.RequestGateway(t.Context(), id, netip.Addr{}); err != nil || got.String() != "10.99.0.1/28" {
		t.Errorf("gateway: %s, %v", got, err)
	}
}

// TestGatewayIsNotClaimed: an address that is refused here, since the gateway has it, is not claimed either.
func TestGatewayIsNotClaimed(t *testing.T) {
	f := newShared(t, 1)[0]
	id := f.pool(PoolRequest{Subnet: netip.MustParsePrefix("10.99.0.0/28"), Network: "app"}).ID
	gateway, err := f.RequestGateway(t.Context(), id, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.RequestAddress(t.Context(), id, gateway.Addr()); !errors.Is(err, ErrAddressInUse) {
		t.Errorf("the gateway's address: %v, want ErrAddressInUse", err)
	}
	held, err := f.options.Cluster.Holdings(t.Context(), "app")
	if err != nil || len(held) > 0 {
		t.Errorf("etcd has %v, %v, want nothing", held, err)
	}
}

// TestSharedPoolRefused: a network has one subnet on all hosts, and a pool of a cluster is no use without it.
func TestSharedPoolRefused(t *testing.T) {
	hosts := newShared(t, 2)
	chosen := hosts[0].pool(PoolRequest{Space: LocalSpace, Network: "app"}).Subnet
	other := PoolRequest{Space: LocalSpace, Network: "app", Subnet: netip.MustParsePrefix("10.97.0.0/24")}
	_, err := hosts[1].RequestPool(t.Context(), other)
	if !errors.Is(err, cluster.ErrConflict) || !strings.Contains(err.Error(), chosen.String()) ||
		!strings.Contains(err.Error(), other.Subnet.String()) {
		t.Errorf("another subnet: %v, want an error with both", err)
	}
	if pools := hosts[1].Pools(); len(pools) != 0 {
		t.Errorf("pools %v are left of it", pools)
	}
	second := hosts[1].pool(PoolRequest{Space: LocalSpace, Network: "second"}).Subnet
	if second.Overlaps(chosen) {
		t.Errorf("another network of the cluster got %s, which overlaps %s", second, chosen)
	}
	_, err = hosts[1].RequestPool(t.Context(), PoolRequest{Space: GlobalSpace, Network: "third"})
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "(-o)") {
		t.Errorf("in the global space: %v, want ErrInvalid and what to do instead", err)
	}
	alone := newFixture(t, Options{})
	_, err = alone.RequestPool(t.Context(), PoolRequest{Space: LocalSpace, Network: "app"})
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("without a cluster: %v, want ErrInvalid", err)
	}
}

// TestChosenSubnetsDiffer: a network of the cluster has the subnet of no other, also of one that another host makes at
// the same moment.
func TestChosenSubnetsDiffer(t *testing.T) {
	hosts := newShared(t, 2)
	const each, bits = 10, 17 // of a range of 32 such subnets
	var mu sync.Mutex
	chosen := map[string]netip.Prefix{}
	var group sync.WaitGroup
	for n, f := range hosts {
		for i := range each {
			group.Go(func() {
				name := fmt.Sprintf("app-%d-%d", n, i)
				p, err := f.RequestPool(t.Context(), PoolRequest{Space: LocalSpace, Network: name, Bits: bits})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for other, subnet := range chosen {
					if p.Subnet.Overlaps(subnet) {
						t.Errorf("%s and %s both have %s", name, other, subnet)
					}
				}
				chosen[name] = p.Subnet
			})
		}
	}
	group.Wait()
}

// TestOwnSubnetsAreNotInTheWay: whatever networks a host has of its own, it can join one that another host has made.
func TestOwnSubnetsAreNotInTheWay(t *testing.T) {
	hosts := newShared(t, 2)
	for n, f := range hosts {
		for range 3 * (n + 1) {
			f.pool(PoolRequest{})
		}
	}
	want := hosts[0].pool(PoolRequest{Network: "app"}).Subnet
	if got := hosts[1].pool(PoolRequest{Network: "app"}).Subnet; got != want {
		t.Errorf("the network has %s on the other host, want %s", got, want)
	}
}

// TestPartsOfBlocksAreGivenBack: when another host finds no address a host gives back what it does not use, also of
// blocks of which it uses a part, and keeps what it uses, over a restart of weave, too.
func TestPartsOfBlocksAreGivenBack(t *testing.T) {
	hosts := newShared(t, 2)
	subnet := netip.MustParsePrefix("10.99.0.0/25") // of 64 blocks of 2
	a := hosts[0].pool(PoolRequest{Subnet: subnet, Network: "app"}).ID
	b := hosts[1].pool(PoolRequest{Network: "app"}).ID
	for i, id := range []PoolID{a, b} {
		if _, err := hosts[i].RequestGateway(t.Context(), id, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
	}
	var free []netip.Addr
	for _, addr := range hosts[0].all(a) {
		if addr.As4()[3]%2 == 1 {
			hosts[0].release(a, addr.String())
			free = append(free, addr)
		}
	}
	got := hosts[1].all(b)
	slices.SortFunc(got, netip.Addr.Compare)
	slices.SortFunc(free, netip.Addr.Compare)
	if !slices.Equal(got, free) {
		t.Errorf("of %d free addresses the other host got %d: %v", len(free), len(got), got)
	}
	for addr := subnet.Addr().Next().Next(); addr != netip.MustParseAddr("10.99.0.127"); addr = addr.Next() {
		owner := hosts[0]
		if slices.Contains(got, addr) {
			owner = hosts[1]
		}
		for _, f := range hosts {
			if holds := f.options.Cluster.Holds("app", addr); holds != (f == owner) {
				t.Errorf("host with %s: holds it %v; another one: %v", addr, f == owner, holds)
			}
		}
	}
	_, err := hosts[1].RequestAddress(t.Context(), b, netip.Addr{})
	if !errors.Is(err, ErrPoolExhausted) || !strings.Contains(err.Error(), "weave ipam") {
		t.Errorf("when nothing is left: %v, want an error that says how to find out who has it", err)
	}
}
