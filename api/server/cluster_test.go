// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/mac"
)

// twoHosts are a host that is in a cluster, and another one, which the first has seen last with two endpoints.
type twoHosts struct{}

var (
	host1 = cluster.Host{ID: "0123456789abcdef", Name: "host1", VTEP: netip.MustParseAddr("192.0.2.1"), Since: day}
	host2 = cluster.Host{ID: "1123456789abcdef", Name: "host2", VTEP: netip.MustParseAddr("192.0.2.2"), Since: day}
)

var inCluster = api.Cluster{
	Etcd: []string{"https://192.0.2.8:2379", "https://192.0.2.9:2379"}, LastContact: day,
	Error: "etcd can't be reached", Address: host1.VTEP, Port: 6784, Hosts: 1, Probed: 1, Faulty: 1,
}

func (twoHosts) Self() cluster.Host  { return host1 }
func (twoHosts) Status() api.Cluster { return inCluster }

func (twoHosts) Tunnels() map[string]api.Tunnel {
	return map[string]api.Tunnel{host2.ID: {
		Since: day, Probed: day.Add(time.Minute), Fault: "blocked", Text: "no VXLAN packets come from there",
	}}
}

func (twoHosts) HostName(id string) string {
	return map[string]string{host1.ID: host1.Name, host2.ID: host2.Name}[id]
}

func (twoHosts) Remotes(network string) ([]cluster.Remote, bool) {
	if network != "shop" {
		return nil, false
	}
	remote := func(n byte, name, address string) cluster.Remote {
		return cluster.Remote{VTEP: host2.VTEP, Endpoint: cluster.Endpoint{
			ID: id(fmt.Sprintf("ffff%d", n)), Network: network, Host: host2.ID, ContainerName: name,
			ContainerID: id(fmt.Sprintf("eeee%d", n)), MAC: mac.Address{2, 0, 0, 0, 1, n}, Addresses: prefixes(address),
		}}
	}
	return []cluster.Remote{remote(1, "web", "10.32.0.3/22"), remote(2, "cccc2", "10.32.0.11/22")}, true
}

func (twoHosts) Holdings(context.Context, string) (map[string][]netip.Prefix, error) {
	return map[string][]netip.Prefix{
		host1.ID: prefixes("10.32.0.0/28", "10.32.0.20/32", "fd00:1::/120"), host2.ID: prefixes("10.32.0.32/28"),
	}, nil
}

func (twoHosts) Forget(context.Context, string) error { return nil }

func (twoHosts) Blocks(string) []netip.Prefix { return prefixes("10.32.0.0/28") }

func (twoHosts) Hosts() []cluster.HostStatus {
	return []cluster.HostStatus{
		{Host: host1, Present: true, Endpoints: 1},
		{Host: host2, GoneSince: day.Add(time.Hour)},
	}
}

// TestEndpointsOfTheCluster: those on other hosts are listed beside this host's, where they are asked for.
func TestEndpointsOfTheCluster(t *testing.T) {
	const web1, web2, created, onDB, far1, far2 = "eeee1", "eeee2", "eeee3", "eeee4", "ffff1", "ffff2"
	for query, want := range map[string][]string{
		"":                             {created, web1, far1, web2, far2, onDB}, // by network and address
		"local=1":                      {created, web1, web2, onDB},
		"live=1":                       {created, web1, web2, onDB}, // nobody can look into them
		"network=db":                   {onDB},
		"network=app":                  {created, web1, far1, web2, far2},
		"container=web":                {web1, far1, onDB},
		"container=web&local=1":        {web1, onDB},
		"container=/web&network=app":   {web1, far1},
		"container=cccc2":              {far2}, // a name matches before the beginning of an id
		"container=" + id("cccc2"):     {web2},
		"container=" + far1:            nil, // an endpoint's id is none of a container
		"container=/&container=nobody": nil,
	} {
		code, body := get(t, newServer(twoHosts{}), "/v1/endpoints?"+query)
		if code != http.StatusOK {
			t.Fatalf("%s: status %d: %s", query, code, body)
		}
		var list []api.Endpoint
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range list {
			got = append(got, e.ID[:5])
			if isFar := e.ID[0] == 'f'; e.Remote != isFar || e.Stale != isFar || (e.Host == "host2") != isFar {
				t.Errorf("%s: %+v", query, e)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: endpoints (-want +got):\n%s", query, diff)
		}
	}
}
