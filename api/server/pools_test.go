// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// somePools are two that hosts share, of the network app, and two of this host's alone, of no network.
func somePools() []ipam.Pool {
	pool := func(subnet, within, network string) ipam.Pool {
		p := ipam.Pool{Space: "local", Subnet: netip.MustParsePrefix(subnet), Network: network}
		if within != "" {
			p.Range = netip.MustParsePrefix(within)
		}
		return p
	}
	return []ipam.Pool{
		pool("fd00:1::/64", "", "shop"), pool("10.32.0.0/22", "", "shop"),
		pool("10.99.0.0/24", "10.99.0.64/26", ""), pool("fd00:99::/64", "", ""),
	}
}

// mute is a host whose etcd does not answer.
type mute struct{ twoHosts }

func (mute) Holdings(context.Context, string) (map[string][]netip.Prefix, error) {
	return nil, errors.New("etcd can't be reached")
}

// TestPools: who holds what is told as far as it is known.
func TestPools(t *testing.T) {
	own := func(endpoints int, addresses uint64, blocks ...string) api.Holder {
		return api.Holder{
			Host: "host1", HostID: host1.ID, Self: true, Addresses: addresses, Endpoints: endpoints,
			Blocks: append([]netip.Prefix{}, prefixes(blocks...)...),
		}
	}
	other := func(endpoints int, addresses uint64, blocks ...string) api.Holder {
		h := own(endpoints, addresses, blocks...)
		h.Host, h.HostID, h.Self = "host2", host2.ID, false
		return h
	}
	alone := func(h api.Holder) api.Holder {
		h.Host, h.HostID = "", ""
		return h
	}
	const v4, v6, local = "10.32.0.0/22", "fd00:1::/64", "10.99.0.0/24"
	for name, tt := range map[string]struct {
		cluster Cluster
		want    map[string][]api.Holder // by subnet
		error   string
	}{
		"in a cluster": {twoHosts{}, map[string][]api.Holder{
			v4:    {own(2, 17, "10.32.0.0/28", "10.32.0.20/32"), other(2, 16, "10.32.0.32/28")},
			v6:    {own(1, 256, "fd00:1::/120")},
			local: {own(0, 64, "10.99.0.64/26")},
		}, ""},
		"without etcd": {mute{}, map[string][]api.Holder{
			v4: {own(2, 16, "10.32.0.0/28")}, v6: {own(1, 0)}, local: {own(0, 64, "10.99.0.64/26")},
		}, "only what this host holds is known: etcd can't be reached"},
		"in no cluster": {nil, map[string][]api.Holder{local: {alone(own(0, 64, "10.99.0.64/26"))}}, ""},
	} {
		_, body := get(t, newServer(tt.cluster), "/v1/pools")
		var list []api.Pool
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		got := map[string][]api.Holder{}
		for _, p := range list {
			got[p.Subnet.String()] = p.Holders
			if isShared := p.Cluster != ""; isShared && p.Error != tt.error || !isShared && p.Error != "" {
				t.Errorf("%s: %s: error %q", name, p.Subnet, p.Error)
			}
		}
		for subnet, want := range tt.want {
			if diff := cmp.Diff(want, got[subnet], cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("%s: holders of %s (-want +got):\n%s", name, subnet, diff)
			}
		}
	}
	if _, body := get(t, newServer(nil), "/v1/pools"); !strings.Contains(body, `"addresses":18446744073709551615`) {
		t.Errorf("a subnet of /64 has %s", body)
	}
}

// TestDockersPools: the subnets of networks that have Docker's own IPAM are listed, too, with what hosts hold of them.
func TestDockersPools(t *testing.T) {
	host, names := twoNetworks()
	host.networks[0].Pools = []driver.Pool{
		{Subnet: netip.MustParsePrefix("10.32.8.0/24"), Space: ipam.LocalSpace}, // which the state has lost
		{Subnet: netip.MustParsePrefix("0.0.0.0/0")},                            // Docker's null driver
	}
	s := New(Options{
		Tracker: host, Inspector: host, Names: names, Status: fullStatus, Cluster: twoHosts{},
		Pools: func() []ipam.Pool { return somePools()[:1] },
	})
	_, body := get(t, s, "/v1/pools")
	var got []api.Pool
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || !got[0].Docker || got[0].Subnet.String() != "10.32.0.0/22" || got[1].Docker {
		t.Fatalf("%+v, want the IPv4 subnet of app as Docker's and the IPv6 one as weave's", got)
	}
	if h := got[0].Holders; got[0].NetworkName != "app" || len(h) != 2 || h[0].Addresses != 17 || h[1].Addresses != 16 {
		t.Errorf("%+v, want what both hosts hold", got[0])
	}
}
