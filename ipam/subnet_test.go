// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/prefix"
)

func TestFreeSubnet(t *testing.T) {
	for _, c := range []struct {
		name, in string
		bits     int
		from     string
		used     []string
		want     string // empty: none
	}{
		{"first", "10.32.0.0/12", 22, "", nil, "10.32.0.0/22"},
		{"goes on", "10.32.0.0/12", 22, "10.32.4.0", nil, "10.32.4.0/22"},
		{"goes on from between", "10.32.0.0/12", 22, "10.32.4.1", nil, "10.32.8.0/22"},
		{"comes round", "10.32.0.0/12", 22, "10.47.252.1", nil, "10.32.0.0/22"},
		{"from elsewhere", "10.32.0.0/12", 22, "10.99.0.0", nil, "10.32.0.0/22"},
		{"steps over a small one", "10.32.0.0/12", 22, "", []string{"10.32.1.0/24"}, "10.32.4.0/22"},
		{"steps over a large one", "10.32.0.0/12", 22, "", []string{"10.32.0.0/13"}, "10.40.0.0/22"},
		{"steps over several", "10.32.0.0/12", 22, "",
			[]string{"10.32.4.0/22", "10.32.0.0/30", "10.32.8.0/21"}, "10.32.16.0/22"},
		{"comes round to a gap", "10.32.0.0/22", 24, "10.32.3.0",
			[]string{"10.32.3.0/24", "10.32.0.0/24"}, "10.32.1.0/24"},
		{"none", "10.32.0.0/22", 24, "10.32.2.0", []string{"10.32.0.0/23", "10.32.2.0/25", "10.32.3.255/32"}, ""},
		{"all of it", "10.32.0.0/12", 22, "", []string{"10.0.0.0/8"}, ""},
		{"the whole", "10.32.0.0/12", 12, "", nil, "10.32.0.0/12"},
		{"the end of all addresses", "255.255.255.0/24", 32, "",
			[]string{"255.255.255.0/25", "255.255.255.128/25"}, ""},
		{"other family", "fd00:1::/48", 64, "", []string{"10.0.0.0/8", "fd00:1::/64"}, "fd00:1:0:1::/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, _ := netip.ParseAddr(c.from)
			var used []netip.Prefix
			for _, p := range c.used {
				used = append(used, netip.MustParsePrefix(p))
			}
			got, ok := freeSubnet(netip.MustParsePrefix(c.in), c.bits, from, used)
			if want, err := netip.ParsePrefix(c.want); got != want || ok != (err == nil) {
				t.Errorf("%s, %v: want %q", got, ok, c.want)
			}
		})
	}
}

// TestHalvesOfARange: this host's subnets are in the first half and the cluster's in the second, from a place on that
// depends on the name, as long as there is a free one.
func TestHalvesOfARange(t *testing.T) {
	for _, c := range []struct {
		name, in string
		bits     int
		network  string
		used     []string
		want     string // empty: none; within it
	}{
		{"this host's", "10.32.0.0/12", 22, "", nil, "10.32.0.0/22"},
		{"this host's, the half is full", "10.32.0.0/12", 22, "", []string{"10.32.0.0/13"}, "10.40.0.0/22"},
		{"this host's, all is full", "10.32.0.0/12", 22, "", []string{"10.32.0.0/12"}, ""},
		{"this host's, larger than the half", "10.32.0.0/12", 12, "", nil, "10.32.0.0/12"},
		{"the cluster's", "10.32.0.0/12", 22, "app", nil, "10.40.0.0/13"},
		{"the cluster's, before the place", "10.32.0.0/12", 22, "app", []string{"10.42.0.0/15", "10.44.0.0/14"},
			"10.40.0.0/15"},
		{"the cluster's, after the place", "10.32.0.0/12", 22, "app", []string{"10.40.0.0/14", "10.44.0.0/15"},
			"10.46.0.0/15"},
		{"the cluster's, the half is full", "10.32.0.0/12", 22, "app", []string{"10.40.0.0/13"}, "10.32.0.0/22"},
		{"the cluster's, all is full", "10.32.0.0/12", 22, "app", []string{"10.32.0.0/12"}, ""},
		{"the cluster's, larger than the half", "10.32.0.0/12", 12, "app", nil, "10.32.0.0/12"},
		{"the cluster's, of one address", "10.32.0.0/32", 32, "app", nil, "10.32.0.0/32"},
		{"the cluster's, of IPv6", "fd00:1::/48", 64, "app", nil, "fd00:1:0:8000::/49"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := subnetRange{prefix: netip.MustParsePrefix(c.in)}
			var used []netip.Prefix
			for _, p := range c.used {
				used = append(used, netip.MustParsePrefix(p))
			}
			got, ok := r.find(c.bits, c.network, used)
			if !ok || c.want == "" {
				if ok || c.want != "" {
					t.Errorf("%s, %v: want %q", got, ok, c.want)
				}
				return
			}
			if want := netip.MustParsePrefix(c.want); got.Bits() != c.bits || !want.Contains(got.Addr()) {
				t.Errorf("%s: want a /%d of %s", got, c.bits, want)
			}
		})
	}
	half := netip.MustParsePrefix("10.40.0.0/13")
	if a, b := placeIn(half, "app"), placeIn(half, "shop"); a == b || !half.Contains(a) || !half.Contains(b) {
		t.Errorf("the places of two names are %s and %s: want different ones of %s", a, b, half)
	}
}

func TestPoolsMoveOn(t *testing.T) {
	f := newFixture(t, Options{
		RangeV4: netip.MustParsePrefix("10.32.0.0/21"), SubnetBits: 24,
		Routes: func(context.Context) ([]netip.Prefix, error) {
			return []netip.Prefix{
				netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), {},
				netip.MustParsePrefix("10.32.1.77/30"),
			}, nil
		},
	})
	next := func(want string) PoolID {
		t.Helper()
		p := f.pool(PoolRequest{})
		if p.Subnet.String() != want {
			t.Errorf("%s: want %s", p.Subnet, want)
		}
		return p.ID
	}
	first := next("10.32.0.0/24")
	f.releasePool(first)
	second := next("10.32.2.0/24") // 10.32.1.0/24 has a route
	f.releasePool(second)
	f.restart()
	next("10.32.3.0/24")
	next("10.32.0.0/24")
	next("10.32.2.0/24")
	next("10.32.4.0/24") // of the other half, when there is no other
	next("10.32.5.0/24")
	next("10.32.6.0/24")
	next("10.32.7.0/24")
	_, err := f.RequestPool(t.Context(), PoolRequest{Space: LocalSpace})
	if !errors.Is(err, ErrPoolExhausted) || !strings.Contains(err.Error(), "--subnet") {
		t.Errorf("%v: want ErrPoolExhausted with advice", err)
	}
	f.subnet("10.32.1.0/24") // whoever names it gets it
}

// TestDockersPoolsAreAvoided: a subnet that Docker may give to its next network is chosen by nobody but the user.
func TestDockersPoolsAreAvoided(t *testing.T) {
	f := newFixture(t, Options{
		RangeV4: netip.MustParsePrefix("172.16.0.0/12"), SubnetBits: 16,
		Avoid: func() []netip.Prefix {
			return []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("172.18.0.0/15"),
				netip.MustParsePrefix("172.20.0.0/14"), netip.MustParsePrefix("172.24.0.0/13")}
		},
	})
	first := f.pool(PoolRequest{})
	if first.Subnet.String() != "172.16.0.0/16" {
		t.Errorf("%s: want 172.16.0.0/16, the only one that Docker does not hand out", first.Subnet)
	}
	_, err := f.RequestPool(t.Context(), PoolRequest{Space: LocalSpace})
	if !errors.Is(err, ErrPoolExhausted) || !strings.Contains(err.Error(), "Docker's default address pools") {
		t.Errorf("%v: want ErrPoolExhausted that names Docker's pools", err)
	}
	f.subnet("172.18.0.0/16") // whoever names it gets it
}

func TestUnreadableRoutes(t *testing.T) {
	broken := errors.New("broken")
	f := newFixture(t, Options{Routes: func(context.Context) ([]netip.Prefix, error) { return nil, broken }})
	if _, err := f.RequestPool(t.Context(), PoolRequest{Space: LocalSpace}); !errors.Is(err, broken) {
		t.Errorf("%v: want the error", err)
	}
	f.subnet("10.9.0.0/24")
}

func TestRandomRangeOfIPv6Stays(t *testing.T) {
	f := newFixture(t, Options{})
	v6 := PoolRequest{IPv6: true}
	first := f.pool(v6).Subnet
	if b := first.Addr().As16(); first.Bits() != 64 || b[0] != 0xfd || b[7] != 0 {
		t.Errorf("%s: want the first /64 of a unique local /48", first)
	}
	f.restart()
	second := f.pool(v6).Subnet
	if want := netip.PrefixFrom(prefix.Last(first).Next(), 64); second != want {
		t.Errorf("%s: want %s", second, want)
	}
	other := newFixture(t, Options{})
	if got := other.pool(v6).Subnet; got == first {
		t.Errorf("two states have the range of %s", got)
	}
}
