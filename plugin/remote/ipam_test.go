// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/store"
)

// newIPAMCalls has an IPAM without pools behind it.
func newIPAMCalls(t testing.TB) ipamCalls {
	t.Helper()
	st, err := store.OpenBolt(t.Context(), filepath.Join(t.TempDir(), "weave.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	pools, err := ipam.New(ipam.Options{
		Store: st, Log: quiet(), RangeV6: netip.MustParsePrefix("fd00:32::/48"),
		Routes: func(context.Context) ([]netip.Prefix, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := pools.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ipamCalls{pools}
}

func TestPoolRequest(t *testing.T) {
	const local, global = ipam.LocalSpace, ipam.GlobalSpace
	type wire = dockeripam.RequestPoolRequest
	type typed = ipam.PoolRequest
	subnet := netip.MustParsePrefix
	for _, c := range []struct {
		name string
		wire wire
		want typed
	}{
		{"subnet", wire{Pool: "10.9.0.0/24"}, typed{Subnet: subnet("10.9.0.0/24")}},
		{"host bits", wire{Pool: "10.9.0.3/24"}, typed{Subnet: subnet("10.9.0.0/24")}},
		{"sub-pool", wire{Pool: "10.9.0.0/24", SubPool: "10.9.0.129/25"},
			typed{Subnet: subnet("10.9.0.0/24"), Range: subnet("10.9.0.128/25")}},
		{"IPv6", wire{Pool: "fd00:9::1/64", V6: true}, typed{Subnet: subnet("fd00:9::/64")}},
		{"IPv6 from Swarm", wire{Pool: "fd00:9::/64"}, typed{Subnet: subnet("fd00:9::/64")}},
		{"any", wire{}, typed{}},
		{"any IPv6", wire{V6: true}, typed{IPv6: true}},
		{"any /24", wire{Pool: "0.0.0.0/24"}, typed{Bits: 24}},
		{"any IPv6 /80", wire{Pool: "::/80", V6: true}, typed{IPv6: true, Bits: 80}},
		{"any IPv6 /80 without V6", wire{Pool: "::/80"}, typed{IPv6: true, Bits: 80}},
		{"global space", wire{AddressSpace: global}, typed{Space: global}},
		{"of the cluster", wire{Options: map[string]string{"works.weave.network": "app"}}, typed{Network: "app"}},
		{"Docker's own option", wire{Options: map[string]string{"com.docker.network.ipam.serial": "true"}}, typed{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want.Space == "" {
				c.wire.AddressSpace, c.want.Space = local, local
			}
			if got, err := poolRequest(&c.wire); err != nil || got != c.want {
				t.Errorf("%+v, %v: want %+v", got, err, c.want)
			}
		})
	}
	for _, c := range []struct {
		name string
		wire wire
		want string // the error
	}{
		{"no length", wire{Pool: "10.9.0.0"}, `subnet "10.9.0.0": want an address and a length`},
		{"text", wire{Pool: "weave"}, `subnet "weave": want`},
		{"sub-pool", wire{Pool: "10.9.0.0/24", SubPool: "half"}, `subnet "half": want`},
		{"IPv4 in IPv6", wire{Pool: "::ffff:10.9.0.0/120", V6: true}, `subnet "::ffff:10.9.0.0/120": want`},
		{"zone", wire{Pool: "fe80::%eth0/64", V6: true}, `subnet "fe80::%eth0/64": want`},
		{"IPv4 as IPv6", wire{Pool: "10.9.0.0/24", V6: true}, "subnet 10.9.0.0/24: want an IPv6 subnet"},
		{"any IPv4 as IPv6", wire{Pool: "0.0.0.0/24", V6: true}, "subnet 0.0.0.0/24: want an IPv6 subnet"},
		{"everything", wire{Pool: "0.0.0.0/0"}, "subnet 0.0.0.0/0: it is all addresses"},
		{"everything of IPv6", wire{Pool: "::/0", V6: true}, "subnet ::/0: it is all addresses"},
		{"unknown options", wire{Options: map[string]string{"k": "v", "a": "b"}}, `option a: "b": weave's IPAM has`},
	} {
		t.Run("refused: "+c.name, func(t *testing.T) {
			got, err := poolRequest(&c.wire)
			if !errors.Is(err, ipam.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v: want ErrInvalid and %q", got, err, c.want)
			}
		})
	}
}

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		text, want string
		err        error
	}{
		{"10.9.0.3", "10.9.0.3", nil},
		{"::ffff:10.9.0.4", "10.9.0.4", nil},
		{"fd00:9:0::5", "fd00:9::5", nil},
		{"fe80::1%eth0", "", ipam.ErrForeignAddress},
		{"10.9.0.3/29", "", ipam.ErrInvalid},
		{"10.9.0", "", ipam.ErrInvalid},
		{"web", "", ipam.ErrInvalid},
		{"", "", ipam.ErrInvalid},
	} {
		got, err := parseAddress(c.text)
		if !errors.Is(err, c.err) || err == nil && got.String() != c.want {
			t.Errorf("%q: %s, %v: want %q, %v", c.text, got, err, c.want, c.err)
		}
	}
}

// TestIPAMCalls sends requests as Docker does, and checks the answers and what the errors say.
func TestIPAMCalls(t *testing.T) {
	w := newIPAMCalls(t)
	pool := func(r dockeripam.RequestPoolRequest) (any, error) { return w.requestPool(t.Context(), &r) }
	address := func(pool, address string) (any, error) {
		return w.requestAddress(t.Context(), &dockeripam.RequestAddressRequest{PoolID: pool, Address: address})
	}
	release := func(pool, address string) (any, error) {
		r := dockeripam.ReleaseAddressRequest{PoolID: pool, Address: address}
		_, err := w.releaseAddress(t.Context(), &r)
		return nil, err
	}
	releasePool := func(id string) (any, error) {
		_, err := w.releasePool(t.Context(), &dockeripam.ReleasePoolRequest{PoolID: id})
		return nil, err
	}
	none := map[string]string{}
	const id = "weavelocal/10.9.0.0/24/10.9.0.128/25"
	for _, c := range []struct {
		name    string
		answer  func() (any, error)
		want    any
		wantErr string
	}{
		{"pool", func() (any, error) {
			return pool(dockeripam.RequestPoolRequest{
				AddressSpace: "weavelocal", Pool: "10.9.0.7/24", SubPool: "10.9.0.128/25",
			})
		}, &dockeripam.RequestPoolResponse{PoolID: id, Pool: "10.9.0.0/24", Data: none}, ""},
		{"any pool of a length", func() (any, error) {
			return pool(dockeripam.RequestPoolRequest{AddressSpace: "weaveglobal", Pool: "::/80", V6: true})
		}, &dockeripam.RequestPoolResponse{PoolID: "weaveglobal/fd00:32::/80", Pool: "fd00:32::/80", Data: none}, ""},
		{"malformed pool", func() (any, error) {
			return pool(dockeripam.RequestPoolRequest{AddressSpace: "weavelocal", Pool: "app"})
		}, nil, `request pool app in weavelocal: invalid request: subnet "app"`},
		{"malformed option", func() (any, error) {
			return pool(dockeripam.RequestPoolRequest{AddressSpace: "x", Options: map[string]string{"k": "v"}})
		}, nil, "request pool of any subnet in x: invalid request: option k"},
		{"range of any pool", func() (any, error) {
			return pool(dockeripam.RequestPoolRequest{AddressSpace: "weavelocal", SubPool: "10.9.0.0/25"})
		}, nil, "request pool of any subnet in weavelocal: invalid request: range 10.9.0.0/25: name its subnet too"},
		{"other space", func() (any, error) {
			return pool(dockeripam.RequestPoolRequest{AddressSpace: "LocalDefault"})
		}, nil, `address space "LocalDefault": want`},
		{"any address", func() (any, error) { return address(id, "") },
			&dockeripam.RequestAddressResponse{Address: "10.9.0.128/24", Data: none}, ""},
		{"address mapped to IPv6", func() (any, error) { return address(id, "::ffff:10.9.0.1") },
			&dockeripam.RequestAddressResponse{Address: "10.9.0.1/24", Data: none}, ""},
		{"address in use", func() (any, error) { return address(id, "10.9.0.1") },
			nil, "request address 10.9.0.1 of pool " + id + ": address is in use"},
		{"malformed address", func() (any, error) { return address(id, "web") },
			nil, "request address web of pool " + id + `: invalid request: address "web"`},
		{"address of no pool", func() (any, error) { return address("app", "") },
			nil, "request address any of pool app: no such pool"},
		{"release", func() (any, error) { return release(id, "::ffff:10.9.0.1") }, nil, ""},
		{"address that was released", func() (any, error) { return address(id, "10.9.0.1") },
			&dockeripam.RequestAddressResponse{Address: "10.9.0.1/24", Data: none}, ""},
		{"release of a malformed address", func() (any, error) { return release(id, "web") },
			nil, "release address web of pool " + id + ": invalid request"},
		{"release of a pool", func() (any, error) { return releasePool(id) }, nil, ""},
		{"release of no pool", func() (any, error) { return releasePool("app") }, nil, ""},
	} {
		got, err := c.answer()
		if c.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.wantErr)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, diff)
		}
	}
	if left := w.pools.(*ipam.IPAM).Pools(); len(left) != 1 || left[0].ID != "weaveglobal/fd00:32::/80" {
		t.Errorf("pools %v, want that of the global space", left)
	}
}

// FuzzIPAMCalls sends any texts: a request is refused as malformed, or is answered with a pool, and an address of it.
func FuzzIPAMCalls(f *testing.F) {
	f.Add(ipam.LocalSpace, "10.9.0.0/24", "10.9.0.128/25", "10.9.0.1", false)
	f.Add(ipam.GlobalSpace, "::/64", "", "", true)
	f.Add(ipam.LocalSpace, "0.0.0.0/31", "", "::ffff:10.32.0.1", false)
	f.Add(ipam.LocalSpace, "255.255.255.255/32", "", "fe80::1%eth0", false)
	f.Add("LocalDefault", "", "10.9.0.0/33", "web", true)
	w := newIPAMCalls(f)
	refused := func(t *testing.T, err error) {
		if !slices.ContainsFunc(clientErrors, func(kind error) bool { return errors.Is(err, kind) }) {
			t.Errorf("error %v is none of a bad request", err)
		}
	}
	f.Fuzz(func(t *testing.T, space, subnet, subPool, address string, v6 bool) {
		p, err := w.requestPool(t.Context(), &dockeripam.RequestPoolRequest{
			AddressSpace: space, Pool: subnet, SubPool: subPool, V6: v6,
		})
		if err != nil {
			refused(t, err)
			return
		}
		defer func() {
			if _, err := w.releasePool(t.Context(), &dockeripam.ReleasePoolRequest{PoolID: p.PoolID}); err != nil {
				t.Error(err)
			}
		}()
		held := w.pools.(*ipam.IPAM).Pools()[0]
		if p.PoolID != string(held.ID) || p.Pool != held.Subnet.String() {
			t.Errorf("answer %+v for the pool %+v", p, held)
		}
		a, err := w.requestAddress(t.Context(), &dockeripam.RequestAddressRequest{PoolID: p.PoolID, Address: address})
		if err != nil {
			refused(t, err)
			return
		}
		got, err := netip.ParsePrefix(a.Address)
		if err != nil || got.Masked().String() != p.Pool {
			t.Errorf("address %q of pool %s: %v", a.Address, p.Pool, err)
		}
	})
}

// TestNamedEndpointsKeepTheirAddresses: since version 29 Docker tells the name of the container, and a container that
// comes back gets its address, whatever others have requested meanwhile.
func TestNamedEndpointsKeepTheirAddresses(t *testing.T) {
	c := newIPAMCalls(t)
	p, err := c.requestPool(t.Context(), &dockeripam.RequestPoolRequest{
		AddressSpace: ipam.LocalSpace, Pool: "10.9.0.0/24",
	})
	if err != nil {
		t.Fatal(err)
	}
	start := func(name, want string) {
		t.Helper()
		got, err := c.requestAddress(t.Context(), &dockeripam.RequestAddressRequest{
			PoolID: p.PoolID, Options: map[string]string{"com.docker.network.endpoint.name": name},
		})
		if err != nil || got.Address != want {
			t.Errorf("%s: %v, %v: want %s", name, got, err, want)
		}
	}
	stop := func(address string) {
		t.Helper()
		_, err := c.releaseAddress(t.Context(), &dockeripam.ReleaseAddressRequest{PoolID: p.PoolID, Address: address})
		if err != nil {
			t.Error(err)
		}
	}
	start("web", "10.9.0.1/24")
	start("db", "10.9.0.2/24")
	stop("10.9.0.1")
	stop("10.9.0.2")
	start("new", "10.9.0.3/24")
	start("db", "10.9.0.2/24")
	start("web", "10.9.0.1/24")
}
