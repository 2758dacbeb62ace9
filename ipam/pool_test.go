// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRequestPool(t *testing.T) {
	subnet := netip.MustParsePrefix
	v4, v6, multicast := subnet("10.9.0.0/24"), subnet("fd00:9::/64"), subnet("ff02::/64")
	for _, c := range []struct {
		name    string
		request PoolRequest
		id      PoolID
		subnet  netip.Prefix
	}{
		{"subnet", PoolRequest{Subnet: v4}, "weavelocal/10.9.0.0/24", v4},
		{"range", PoolRequest{Subnet: v4, Range: subnet("10.9.0.128/25")}, "weavelocal/10.9.0.0/24/10.9.0.128/25", v4},
		{"IPv6", PoolRequest{Subnet: v6}, "weavelocal/fd00:9::/64", v6},
		{"global space", PoolRequest{Subnet: v6, Space: GlobalSpace}, "weaveglobal/fd00:9::/64", v6},
		{"single address", PoolRequest{Subnet: subnet("10.9.0.7/32")}, "weavelocal/10.9.0.7/32", subnet("10.9.0.7/32")},
		{"any", PoolRequest{}, "weavelocal/10.32.0.0/22", subnet("10.32.0.0/22")},
		{"any of the global space", PoolRequest{Space: GlobalSpace}, "weaveglobal/10.32.0.0/22",
			subnet("10.32.0.0/22")},
		{"any /24", PoolRequest{Bits: 24}, "weavelocal/10.32.0.0/24", subnet("10.32.0.0/24")},
		{"any IPv6", PoolRequest{IPv6: true}, "weavelocal/fd00:32::/64", subnet("fd00:32::/64")},
		{"any IPv6 /80", PoolRequest{IPv6: true, Bits: 80}, "weavelocal/fd00:32::/80", subnet("fd00:32::/80")},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, Options{RangeV6: subnet("fd00:32::/48")})
			got := f.pool(c.request)
			want := Pool{ID: c.id, Space: c.request.Space, Subnet: c.subnet, Range: c.request.Range, Free: got.Free}
			if want.Space == "" {
				want.Space = LocalSpace
			}
			if diff := cmp.Diff(want, got, comparePrefix, cmpopts.IgnoreFields(Pool{}, "Created")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if f.faulty.applied != 1 {
				t.Errorf("%d changes of the store: want 1", f.faulty.applied)
			}
			f.restart()
			if diff := cmp.Diff([]Pool{got}, f.Pools(), comparePrefix); diff != "" {
				t.Errorf("after a restart (-want +got):\n%s", diff)
			}
		})
	}
	for _, c := range []struct {
		name    string
		request PoolRequest
		want    string // part of the error
	}{
		{"host bits", PoolRequest{Subnet: subnet("10.9.0.3/24")}, "10.9.0.3/24: want a prefix without host bits"},
		{"IPv4 in IPv6", PoolRequest{Subnet: subnet("::ffff:10.9.0.0/120")}, "subnet ::ffff:10.9.0.0/120: want"},
		{"invalid", PoolRequest{Subnet: netip.PrefixFrom(v4.Addr(), 33)}, "subnet invalid Prefix: want"},
		{"loopback", PoolRequest{Subnet: subnet("127.0.1.0/24")},
			"overlaps 127.0.0.0/8, which no endpoint can have addresses of: they are loopback addresses"},
		{"unnamed host", PoolRequest{Subnet: subnet("0.1.0.0/16")}, "0.0.0.0/8"},
		{"link-local", PoolRequest{Subnet: subnet("169.254.0.0/16")}, "link-local"},
		{"a link-local one in the middle", PoolRequest{Subnet: subnet("169.0.0.0/8")}, "169.254.0.0/16"},
		{"IPv4 multicast", PoolRequest{Subnet: subnet("239.1.0.0/16")}, "multicast"},
		{"class E", PoolRequest{Subnet: subnet("250.0.0.0/16")}, "240.0.0.0/4"},
		{"broadcast", PoolRequest{Subnet: subnet("255.255.255.255/32")}, "broadcast"},
		{"half of all addresses", PoolRequest{Subnet: subnet("128.0.0.0/1")}, "overlaps 169.254.0.0/16"},
		{"IPv6 loopback", PoolRequest{Subnet: subnet("::1/128")}, "loopback"},
		{"IPv6 around IPv4", PoolRequest{Subnet: subnet("::/64")}, "overlaps ::/96"},
		{"mapped IPv4", PoolRequest{Subnet: subnet("::fffe:0:0/95")}, "overlaps ::ffff:0.0.0.0/96"},
		{"IPv6 link-local", PoolRequest{Subnet: subnet("fe80::/64")}, "link-local"},
		{"multicast", PoolRequest{Subnet: multicast}, "overlaps ff00::/8"},
		{"multicast within", PoolRequest{Subnet: subnet("192.0.0.0/2")}, "overlaps 224.0.0.0/4"},
		{"everything", PoolRequest{Subnet: subnet("0.0.0.0/0")}, "overlaps"},
		{"IPv6 beside a subnet", PoolRequest{Subnet: v4, IPv6: true}, "its family and length can't"},
		{"length beside a subnet", PoolRequest{Subnet: v4, Bits: 24}, "its family and length can't"},
		{"any, larger than the range", PoolRequest{Bits: 8}, "a subnet of /8: the range 10.32.0.0/12 has none"},
		{"any, too long", PoolRequest{Bits: 33}, "a subnet of /33"},
		{"any, negative", PoolRequest{Bits: -1}, "a subnet of /-1"},
		{"range alone", PoolRequest{Range: v4}, "range 10.9.0.0/24: name its subnet too"},
		{"range of any", PoolRequest{Bits: 24, Range: v4}, "name its subnet too"},
		{"range outside", PoolRequest{Subnet: v4, Range: subnet("10.9.1.0/25")}, "is not within subnet 10.9.0.0/24"},
		{"range around", PoolRequest{Subnet: v4, Range: subnet("10.9.0.0/23")}, "is not within subnet 10.9.0.0/24"},
		{"range of the other family", PoolRequest{Subnet: v4, Range: v6}, "is not within"},
		{"range with host bits", PoolRequest{Subnet: v4, Range: subnet("10.9.0.129/25")}, "range 10.9.0.129/25: want"},
		{"range without an address", PoolRequest{Subnet: v4, Range: subnet("10.9.0.0/32")}, "has no address"},
		{"other space", PoolRequest{Space: "LocalDefault"}, `space "LocalDefault": want weavelocal or weaveglobal`},
		{"other space with a subnet", PoolRequest{Space: "LocalDefault", Subnet: v4}, `space "LocalDefault": want`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, Options{RangeV6: subnet("fd00:32::/48")})
			if c.request.Space == "" {
				c.request.Space = LocalSpace
			}
			_, err := f.RequestPool(t.Context(), c.request)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v: want ErrInvalid and %q", err, c.want)
			}
			if len(f.Pools()) != 0 || f.faulty.applied != 0 {
				t.Errorf("pools %v, %d changes: want none", f.Pools(), f.faulty.applied)
			}
		})
	}
}

func TestPoolsOfOneSpaceDoNotOverlap(t *testing.T) {
	f := newFixture(t, Options{})
	f.subnet("10.9.0.0/16")
	for _, subnet := range []string{"10.9.0.0/16", "10.9.4.0/24", "10.0.0.0/8"} {
		_, err := f.RequestPool(t.Context(), PoolRequest{Space: LocalSpace, Subnet: netip.MustParsePrefix(subnet)})
		if !errors.Is(err, ErrPoolOverlap) || !strings.Contains(err.Error(), "weavelocal/10.9.0.0/16") {
			t.Errorf("%s: %v: want ErrPoolOverlap that names the other pool", subnet, err)
		}
	}
	f.subnet("10.10.0.0/16")
	f.pool(PoolRequest{Space: GlobalSpace, Subnet: netip.MustParsePrefix("10.9.0.0/16")})
}

// TestNewLeaderRepeatsRequests: a new leader of a swarm repeats the requests of the one before.
func TestNewLeaderRepeatsRequests(t *testing.T) {
	f := newFixture(t, Options{})
	for range 2 {
		id := f.pool(PoolRequest{Space: GlobalSpace, Subnet: netip.MustParsePrefix("10.9.0.0/24")}).ID
		f.address(id, "10.9.0.1", "10.9.0.1/24")
		f.address(id, "10.9.0.7", "10.9.0.7/24")
		f.restart()
	}
	half := PoolRequest{Space: GlobalSpace, Subnet: netip.MustParsePrefix("10.9.0.0/25")}
	if _, err := f.RequestPool(t.Context(), half); !errors.Is(err, ErrPoolOverlap) {
		t.Errorf("%v: want ErrPoolOverlap", err)
	}
	if p := f.Pools(); len(p) != 1 || p[0].Used != 2 {
		t.Errorf("%v", p)
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
