// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/internal/mac"
)

var compareAddresses = cmpopts.EquateComparable(netip.Addr{})

func remote(hw, vtep string, addresses ...string) Remote {
	r := Remote{VTEP: netip.MustParseAddr(vtep)}
	if hw != "" {
		r.MAC = mac.MustParse(hw)
	}
	for _, a := range addresses {
		r.Addresses = append(r.Addresses, netip.MustParseAddr(a))
	}
	return r
}

func TestDesired(t *testing.T) {
	const one, two = "02:00:00:00:00:01", "02:00:00:00:00:02"
	flood := func(vtep string) Entry { return Entry{Table: Flood, Address: netip.MustParseAddr(vtep)} }
	tunnel := func(hw, vtep string) Entry {
		return Entry{Table: Tunnel, MAC: mac.MustParse(hw), Address: netip.MustParseAddr(vtep)}
	}
	port := func(hw string) Entry { return Entry{Table: Port, MAC: mac.MustParse(hw)} }
	neighbour := func(hw, a string) Entry {
		return Entry{Table: Neighbour, MAC: mac.MustParse(hw), Address: netip.MustParseAddr(a)}
	}
	for name, tt := range map[string]struct {
		local   string
		remotes []Remote
		want    []Entry
	}{
		"nobody": {local: "192.0.2.1"},
		"two endpoints on one host": {
			local: "192.0.2.1",
			remotes: []Remote{
				remote(one, "192.0.2.2", "10.40.0.1", "fd00:40::1"), remote(two, "192.0.2.2"),
			},
			want: []Entry{
				flood("192.0.2.2"), tunnel(one, "192.0.2.2"), tunnel(two, "192.0.2.2"), port(one), port(two),
				neighbour(one, "10.40.0.1"), neighbour(one, "fd00:40::1"),
			},
		},
		"an IPv6 underlay, and addresses in another form": {
			local:   "2001:db8::1",
			remotes: []Remote{remote(one, "2001:db8::2", "::ffff:10.40.0.1")},
			want: []Entry{
				flood("2001:db8::2"), tunnel(one, "2001:db8::2"), port(one), neighbour(one, "10.40.0.1"),
			},
		},
		"an IPv4 VTEP in another form": {
			local:   "::ffff:192.0.2.1",
			remotes: []Remote{remote(one, "::ffff:192.0.2.2"), remote(two, "::ffff:192.0.2.1")},
			want:    []Entry{flood("192.0.2.2"), tunnel(one, "192.0.2.2"), port(one)},
		},
		"one MAC on two hosts": {
			local: "192.0.2.1",
			remotes: []Remote{
				remote(one, "192.0.2.3", "10.40.0.3"), remote(one, "192.0.2.2", "10.40.0.2"),
			},
			want: []Entry{
				flood("192.0.2.2"), flood("192.0.2.3"), tunnel(one, "192.0.2.2"), port(one),
				neighbour(one, "10.40.0.2"),
			},
		},
		"one address on two endpoints": {
			local: "192.0.2.1",
			remotes: []Remote{
				remote(two, "192.0.2.2", "10.40.0.1", "10.40.0.2"), remote(one, "192.0.2.2", "10.40.0.1"),
			},
			want: []Entry{
				flood("192.0.2.2"), tunnel(one, "192.0.2.2"), tunnel(two, "192.0.2.2"), port(one), port(two),
				neighbour(one, "10.40.0.1"), neighbour(two, "10.40.0.2"),
			},
		},
		"told twice": {
			local:   "192.0.2.1",
			remotes: []Remote{remote(one, "192.0.2.2"), remote(one, "192.0.2.2", "10.40.0.1")},
			want: []Entry{
				flood("192.0.2.2"), tunnel(one, "192.0.2.2"), port(one), neighbour(one, "10.40.0.1"),
			},
		},
		"not reachable": {
			local: "192.0.2.1",
			remotes: []Remote{
				remote("", "192.0.2.2"), remote("01:00:5e:00:00:01", "192.0.2.2"),
				remote("ff:ff:ff:ff:ff:ff", "192.0.2.2"),
				remote(one, "192.0.2.1"), remote(one, "2001:db8::2"), remote(one, "0.0.0.0"), remote(one, "239.0.0.1"),
				{MAC: mac.MustParse(one)},
			},
		},
		"addresses that nobody has": {
			local: "192.0.2.1",
			remotes: []Remote{
				remote(one, "192.0.2.2",
					"0.0.0.0", "239.0.0.1", "ff02::1", "255.255.255.255", "127.0.0.1", "fe80::1%eth0"),
			},
			want: []Entry{flood("192.0.2.2"), tunnel(one, "192.0.2.2"), port(one)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := Entries{}
			for _, e := range tt.want {
				want.add(e)
			}
			for range 10 {
				got := Desired(netip.MustParseAddr(tt.local), tt.remotes)
				if diff := cmp.Diff(want, got, compareAddresses); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
				rand.Shuffle(len(tt.remotes), func(i, j int) {
					tt.remotes[i], tt.remotes[j] = tt.remotes[j], tt.remotes[i]
				})
			}
		})
	}
}
