package ipam

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	docker "github.com/docker/go-plugins-helpers/ipam"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
)

func TestNewRefusesOptions(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"no store":                  func(o *Options) { o.Store = nil },
		"no log":                    func(o *Options) { o.Log = nil },
		"no routes":                 func(o *Options) { o.Routes = nil },
		"IPv6 range for IPv4":       func(o *Options) { o.RangeV4 = netip.MustParsePrefix("fd00::/48") },
		"range with host bits":      func(o *Options) { o.RangeV4 = netip.MustParsePrefix("10.32.0.1/12") },
		"range smaller than /22":    func(o *Options) { o.RangeV4 = netip.MustParsePrefix("10.32.0.0/23") },
		"subnets too small":         func(o *Options) { o.SubnetBits = 31 },
		"negative subnets":          func(o *Options) { o.SubnetBits = -1 },
		"multicast range":           func(o *Options) { o.RangeV4 = netip.MustParsePrefix("224.0.0.0/8") },
		"IPv4 range for IPv6":       func(o *Options) { o.RangeV6 = netip.MustParsePrefix("10.0.0.0/8") },
		"IPv6 range too small":      func(o *Options) { o.RangeV6 = netip.MustParsePrefix("fd00::/65") },
		"IPv6 range with host bits": func(o *Options) { o.RangeV6 = netip.MustParsePrefix("fd00::1/48") },
	} {
		o := Options{Store: &faultyStore{}, Log: logrus.NewEntry(logrus.New()), Routes: noRoutes}
		if _, err := New(o); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCallsBeforeLoadAreRefused(t *testing.T) {
	i, err := New(Options{Store: &faultyStore{}, Log: logrus.NewEntry(logrus.New()), Routes: noRoutes})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, err1 := i.RequestPool(ctx, &docker.RequestPoolRequest{AddressSpace: LocalSpace})
	_, err2 := i.RequestAddress(ctx, &docker.RequestAddressRequest{PoolID: "weavelocal/10.0.0.0/8"})
	err3 := i.ReleasePool(ctx, &docker.ReleasePoolRequest{PoolID: "weavelocal/10.0.0.0/8"})
	err4 := i.ReleaseAddress(ctx, &docker.ReleaseAddressRequest{PoolID: "weavelocal/10.0.0.0/8", Address: "10.0.0.1"})
	for _, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, errNotLoaded) {
			t.Errorf("%v: want %v", err, errNotLoaded)
		}
	}
}

func TestRequestPool(t *testing.T) {
	for _, c := range []struct {
		name     string
		request  docker.RequestPoolRequest
		id, pool string
		err      error
	}{
		{name: "subnet", request: docker.RequestPoolRequest{Pool: "10.9.0.0/24"}, id: "weavelocal/10.9.0.0/24", pool: "10.9.0.0/24"},
		{name: "host bits are dropped", request: docker.RequestPoolRequest{Pool: "10.9.0.3/24"},
			id: "weavelocal/10.9.0.0/24", pool: "10.9.0.0/24"},
		{name: "sub-pool", request: docker.RequestPoolRequest{Pool: "10.9.0.0/24", SubPool: "10.9.0.128/25"},
			id: "weavelocal/10.9.0.0/24/10.9.0.128/25", pool: "10.9.0.0/24"},
		{name: "IPv6", request: docker.RequestPoolRequest{Pool: "fd00:9::/64", V6: true}, id: "weavelocal/fd00:9::/64", pool: "fd00:9::/64"},
		{name: "IPv6 from Swarm", request: docker.RequestPoolRequest{Pool: "fd00:9::/64", AddressSpace: GlobalSpace},
			id: "weaveglobal/fd00:9::/64", pool: "fd00:9::/64"},
		{name: "single address", request: docker.RequestPoolRequest{Pool: "10.9.0.7/32"}, id: "weavelocal/10.9.0.7/32", pool: "10.9.0.7/32"},
		{name: "any", id: "weavelocal/10.32.0.0/22", pool: "10.32.0.0/22"},
		{name: "any in the global space", request: docker.RequestPoolRequest{AddressSpace: GlobalSpace},
			id: "weaveglobal/10.32.0.0/22", pool: "10.32.0.0/22"},
		{name: "any /24", request: docker.RequestPoolRequest{Pool: "0.0.0.0/24"}, id: "weavelocal/10.32.0.0/24", pool: "10.32.0.0/24"},
		{name: "any IPv6", request: docker.RequestPoolRequest{V6: true}, id: "weavelocal/fd00:32::/64", pool: "fd00:32::/64"},
		{name: "any IPv6 /80", request: docker.RequestPoolRequest{Pool: "::/80", V6: true}, id: "weavelocal/fd00:32::/80", pool: "fd00:32::/80"},
		{name: "Docker's own options pass", request: docker.RequestPoolRequest{Pool: "10.9.0.0/24",
			Options: map[string]string{"com.docker.network.ipam.serial": "true"}}, id: "weavelocal/10.9.0.0/24", pool: "10.9.0.0/24"},

		{name: "no subnet", request: docker.RequestPoolRequest{Pool: "10.9.0.0"}, err: ErrInvalid},
		{name: "text", request: docker.RequestPoolRequest{Pool: "weave"}, err: ErrInvalid},
		{name: "IPv4 in IPv6", request: docker.RequestPoolRequest{Pool: "::ffff:10.9.0.0/120", V6: true}, err: ErrInvalid},
		{name: "zone", request: docker.RequestPoolRequest{Pool: "fe80::%eth0/64", V6: true}, err: ErrInvalid},
		{name: "IPv4 as IPv6", request: docker.RequestPoolRequest{Pool: "10.9.0.0/24", V6: true}, err: ErrInvalid},
		{name: "loopback", request: docker.RequestPoolRequest{Pool: "127.0.1.0/24"}, err: ErrInvalid},
		{name: "multicast", request: docker.RequestPoolRequest{Pool: "ff02::/64", V6: true}, err: ErrInvalid},
		{name: "multicast within", request: docker.RequestPoolRequest{Pool: "192.0.0.0/2"}, err: ErrInvalid},
		{name: "everything", request: docker.RequestPoolRequest{Pool: "0.0.0.0/0"}, err: ErrInvalid},
		{name: "any of a size that the range has not", request: docker.RequestPoolRequest{Pool: "0.0.0.0/8"}, err: ErrInvalid},
		{name: "sub-pool alone", request: docker.RequestPoolRequest{SubPool: "10.9.0.128/25"}, err: ErrInvalid},
		{name: "sub-pool of any", request: docker.RequestPoolRequest{Pool: "0.0.0.0/24", SubPool: "10.9.0.128/25"}, err: ErrInvalid},
		{name: "sub-pool outside", request: docker.RequestPoolRequest{Pool: "10.9.0.0/24", SubPool: "10.9.1.0/25"}, err: ErrInvalid},
		{name: "sub-pool around", request: docker.RequestPoolRequest{Pool: "10.9.0.0/24", SubPool: "10.9.0.0/23"}, err: ErrInvalid},
		{name: "sub-pool of the other family", request: docker.RequestPoolRequest{Pool: "10.9.0.0/24", SubPool: "fd00::/64"}, err: ErrInvalid},
		{name: "sub-pool without an address", request: docker.RequestPoolRequest{Pool: "10.9.0.0/24", SubPool: "10.9.0.0/32"}, err: ErrInvalid},
		{name: "other space", request: docker.RequestPoolRequest{AddressSpace: "LocalDefault"}, err: ErrInvalid},
		{name: "other space with a subnet", request: docker.RequestPoolRequest{AddressSpace: "LocalDefault", Pool: "10.9.0.0/24"}, err: ErrInvalid},
		{name: "unknown option", request: docker.RequestPoolRequest{Options: map[string]string{"k": "v"}}, err: ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, Options{RangeV6: netip.MustParsePrefix("fd00:32::/48")})
			if c.request.AddressSpace == "" {
				c.request.AddressSpace = LocalSpace
			}
			got, err := f.RequestPool(t.Context(), &c.request)
			if c.err != nil {
				if !errors.Is(err, c.err) || len(f.Pools()) != 0 || f.faulty.applied != 0 {
					t.Errorf("%v, pools %v, %d changes: want %v and nothing changed", err, f.Pools(), f.faulty.applied, c.err)
				}
				return
			}
			want := &docker.RequestPoolResponse{PoolID: c.id, Pool: c.pool, Data: map[string]string{}}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if f.faulty.applied != 1 {
				t.Errorf("%d changes of the store: want 1", f.faulty.applied)
			}
			f.restart()
			if pools := f.Pools(); len(pools) != 1 || pools[0].ID != c.id || pools[0].Subnet.String() != c.pool {
				t.Errorf("after a restart: %v", pools)
			}
		})
	}
}

func TestPoolsOfOneSpaceDoNotOverlap(t *testing.T) {
	f := newFixture(t, Options{})
	f.subnet("10.9.0.0/16")
	for _, subnet := range []string{"10.9.0.0/16", "10.9.4.0/24", "10.0.0.0/8"} {
		_, err := f.RequestPool(t.Context(), &docker.RequestPoolRequest{AddressSpace: LocalSpace, Pool: subnet})
		if !errors.Is(err, ErrPoolOverlap) || !strings.Contains(err.Error(), "weavelocal/10.9.0.0/16") {
			t.Errorf("%s: %v: want ErrPoolOverlap that names the other pool", subnet, err)
		}
	}
	f.subnet("10.10.0.0/16")
	f.pool(docker.RequestPoolRequest{AddressSpace: GlobalSpace, Pool: "10.9.0.0/16"})
}

// TestLeaderAsksAgain: a new leader of a swarm repeats the requests of the one before.
func TestLeaderAsksAgain(t *testing.T) {
	f := newFixture(t, Options{})
	for range 2 {
		id, _ := f.pool(docker.RequestPoolRequest{AddressSpace: GlobalSpace, Pool: "10.9.0.0/24"})
		f.address(id, "10.9.0.1", "10.9.0.1/24")
		f.address(id, "10.9.0.7", "10.9.0.7/24")
		f.restart()
	}
	if _, err := f.RequestPool(t.Context(), &docker.RequestPoolRequest{AddressSpace: GlobalSpace, Pool: "10.9.0.0/25"}); !errors.Is(err, ErrPoolOverlap) {
		t.Errorf("%v: want ErrPoolOverlap", err)
	}
	if p := f.Pools(); len(p) != 1 || p[0].Used != 2 {
		t.Errorf("%v", p)
	}
}

func TestPoolsMoveOn(t *testing.T) {
	f := newFixture(t, Options{
		RangeV4: netip.MustParsePrefix("10.32.0.0/22"), SubnetBits: 24,
		Routes: func(context.Context) ([]netip.Prefix, error) {
			return []netip.Prefix{
				netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), {},
				netip.MustParsePrefix("10.32.1.77/30"),
			}, nil
		},
	})
	next := func(want string) string {
		t.Helper()
		id, subnet := f.pool(docker.RequestPoolRequest{})
		if subnet != want {
			t.Errorf("%s: want %s", subnet, want)
		}
		return id
	}
	first := next("10.32.0.0/24")
	f.releasePool(first)
	second := next("10.32.2.0/24") // 10.32.1.0/24 has a route
	f.releasePool(second)
	f.restart()
	next("10.32.3.0/24")
	next("10.32.0.0/24")
	next("10.32.2.0/24")
	_, err := f.RequestPool(t.Context(), &docker.RequestPoolRequest{AddressSpace: LocalSpace})
	if !errors.Is(err, ErrPoolExhausted) || !strings.Contains(err.Error(), "--subnet") {
		t.Errorf("%v: want ErrPoolExhausted with advice", err)
	}
	f.subnet("10.32.1.0/24") // whoever names it gets it
}

func TestUnreadableRoutes(t *testing.T) {
	broken := errors.New("broken")
	f := newFixture(t, Options{Routes: func(context.Context) ([]netip.Prefix, error) { return nil, broken }})
	if _, err := f.RequestPool(t.Context(), &docker.RequestPoolRequest{AddressSpace: LocalSpace}); !errors.Is(err, broken) {
		t.Errorf("%v: want the error", err)
	}
	f.subnet("10.9.0.0/24")
}

func TestRandomRangeOfIPv6Stays(t *testing.T) {
	f := newFixture(t, Options{})
	v6 := docker.RequestPoolRequest{V6: true}
	_, first := f.pool(v6)
	p := netip.MustParsePrefix(first)
	if p.Bits() != 64 || p.Addr().As16()[0] != 0xfd || p.Addr().As16()[7] != 0 {
		t.Errorf("%s: want the first /64 of a unique local /48", first)
	}
	f.restart()
	_, second := f.pool(v6)
	if want := netip.PrefixFrom(lastOf(p).Next(), 64).String(); second != want {
		t.Errorf("%s: want %s", second, want)
	}
	other := newFixture(t, Options{})
	if _, got := other.pool(v6); got == first {
		t.Errorf("two states have the range of %s", got)
	}
}

func TestRequestAddress(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/29")
	f.address(id, "", "10.9.0.1/29")
	f.address(id, "10.9.0.3", "10.9.0.3/29")
	f.address(id, "::ffff:10.9.0.4", "10.9.0.4/29")
	f.address(id, "", "10.9.0.2/29")
	f.address(id, "", "10.9.0.5/29")
	for _, held := range []string{"10.9.0.1", "10.9.0.3"} {
		f.refused(id, held, ErrAddressInUse)
	}
	for _, foreign := range []string{"10.9.0.0", "10.9.0.7", "10.9.0.8", "10.8.255.255", "fd00::1", "fe80::1%eth0"} {
		f.refused(id, foreign, ErrForeignAddress)
	}
	for _, invalid := range []string{"10.9.0.3/29", "10.9.0", "web"} {
		f.refused(id, invalid, ErrInvalid)
	}
	f.refused("weavelocal/10.10.0.0/24", "", ErrPoolUnknown)
	f.refused("", "", ErrPoolUnknown)
	f.address(id, "", "10.9.0.6/29")
	f.refused(id, "", ErrPoolExhausted)
	f.release(id, "10.9.0.4")
	f.address(id, "", "10.9.0.4/29")
}

func TestRequestAddressV6(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("fd00:9::/64")
	f.address(id, "", "fd00:9::1/64")
	f.address(id, "fd00:9::3", "fd00:9::3/64")
	f.address(id, "fd00:9:0:0:8000::", "fd00:9:0:0:8000::/64")
	f.address(id, "", "fd00:9::2/64")
	f.address(id, "", "fd00:9::4/64")
	f.refused(id, "fd00:9::", ErrForeignAddress)
	f.refused(id, "fd00:9:0:1::", ErrForeignAddress)
	f.refused(id, "10.9.0.1", ErrForeignAddress)
}

func TestSubPool(t *testing.T) {
	f := newFixture(t, Options{})
	id, _ := f.pool(docker.RequestPoolRequest{Pool: "10.9.0.0/24", SubPool: "10.9.0.252/30"})
	f.address(id, "", "10.9.0.252/24")
	f.address(id, "10.9.0.1", "10.9.0.1/24") // a gateway may be outside
	f.refused(id, "10.9.0.1", ErrAddressInUse)
	f.release(id, "10.9.0.1")
	f.address(id, "", "10.9.0.253/24")
	f.address(id, "", "10.9.0.254/24")
	f.refused(id, "", ErrPoolExhausted) // what was outside does not come back in
	f.restart()
	f.refused(id, "", ErrPoolExhausted)
	f.address(id, "10.9.0.1", "10.9.0.1/24")
	f.release(id, "10.9.0.253")
	f.address(id, "", "10.9.0.253/24")
}

func TestReleaseOfWhatIsNotThere(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/24")
	before := f.faulty.applied
	f.release(id, "10.9.0.1")
	f.release(id, "10.99.0.1")
	f.release("weavelocal/10.99.0.0/24", "10.99.0.1")
	f.releasePool("weavelocal/10.99.0.0/24")
	f.releasePool("nonsense")
	if f.faulty.applied != before {
		t.Error("the store was changed")
	}
	if err := f.ReleaseAddress(t.Context(), &docker.ReleaseAddressRequest{PoolID: id, Address: "web"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v: want ErrInvalid", err)
	}
}

func TestReleasePoolLeavesNothing(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/24")
	f.address(id, "", "10.9.0.1/24")
	f.address(id, "", "10.9.0.2/24")
	f.release(id, "10.9.0.1")
	f.releasePool(id)
	if records, err := f.faulty.List(t.Context(), ""); err != nil || len(records) != 0 {
		t.Errorf("%v, %v: want no records", records, err)
	}
	f.address(f.subnet("10.9.0.0/24"), "", "10.9.0.1/24")
}

func TestManyAtOnce(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/24")
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				addr, err1 := f.request(id, "")
				p, err2 := f.RequestPool(t.Context(), &docker.RequestPoolRequest{AddressSpace: LocalSpace})
				if err1 != nil || err2 != nil {
					t.Error(err1, err2)
					return
				}
				f.Pools()
				mu.Lock()
				if seen[addr] || seen[p.PoolID] {
					t.Errorf("%s or %s is given out twice", addr, p.PoolID)
				}
				seen[addr], seen[p.PoolID] = true, true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 160 {
		t.Errorf("%d answers: want 160", len(seen))
	}
}

func FuzzRequestPool(f *testing.F) {
	f.Add(LocalSpace, "10.9.0.0/24", "10.9.0.128/25", "10.9.0.1", false)
	f.Add(GlobalSpace, "::/64", "", "", true)
	f.Add(LocalSpace, "0.0.0.0/31", "", "::ffff:10.32.0.1", false)
	f.Add(LocalSpace, "255.255.255.255/32", "", "", false)
	i := newFixture(f, Options{})
	f.Fuzz(func(t *testing.T, space, subnet, subPool, address string, v6 bool) {
		p, err := i.RequestPool(t.Context(), &docker.RequestPoolRequest{AddressSpace: space, Pool: subnet, SubPool: subPool, V6: v6})
		if err != nil {
			return
		}
		defer func() {
			if err := i.ReleasePool(t.Context(), &docker.ReleasePoolRequest{PoolID: p.PoolID}); err != nil {
				t.Error(err)
			}
		}()
		if q, err := parsePoolID(p.PoolID); err != nil || q.subnet.String() != p.Pool {
			t.Errorf("pool %v reads as %v, %v", p, q, err)
		}
		a, err := i.RequestAddress(t.Context(), &docker.RequestAddressRequest{PoolID: p.PoolID, Address: address})
		if err != nil {
			return
		}
		got, err := netip.ParsePrefix(a.Address)
		if err != nil || got.Masked().String() != p.Pool {
			t.Errorf("address %q of pool %s: %v", a.Address, p.Pool, err)
		}
	})
}

// BenchmarkRequestAddress takes an address and gives it back, each on disk before the answer.
func BenchmarkRequestAddress(b *testing.B) {
	f := newFixture(b, Options{})
	id := f.subnet("10.9.0.0/16")
	for b.Loop() {
		got, err := f.request(id, "")
		if err != nil {
			b.Fatal(err)
		}
		addr, _, _ := strings.Cut(got, "/")
		f.release(id, addr)
	}
}

// TestVacantAddress: a container that comes back after the Engine was killed asks for its address by name, which is
// still held in the name of the endpoint that Docker has forgotten.
func TestVacantAddress(t *testing.T) {
	vacant := netip.MustParseAddr("10.9.0.7")
	f := newFixture(t, Options{Vacant: func(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool {
		return space == LocalSpace && subnet == netip.MustParsePrefix("10.9.0.0/24") && addr == vacant && !since.IsZero()
	}})
	pool, err := f.RequestPool(t.Context(), &docker.RequestPoolRequest{AddressSpace: LocalSpace, Pool: "10.9.0.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(addr string) error {
		_, err := f.RequestAddress(t.Context(), &docker.RequestAddressRequest{PoolID: pool.PoolID, Address: addr})
		return err
	}
	for _, addr := range []string{"10.9.0.7", "10.9.0.8", "10.9.0.7"} {
		if err := ask(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := ask("10.9.0.8"); !errors.Is(err, ErrAddressInUse) {
		t.Errorf("an address that is not vacant, again: %v, want ErrAddressInUse", err)
	}
	if n := f.Pools()[0].Used; n != 2 {
		t.Errorf("%d addresses held, want 2", n)
	}
}
