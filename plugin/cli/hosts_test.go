// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
)

// clusterTown is the town on a host of a cluster: its first network is one of the cluster.
type clusterTown struct{ town }

func (c clusterTown) Networks() []driver.Network {
	networks := c.town.Networks()
	networks[0].Cluster, networks[0].VNI = "shop", 65536
	return networks
}

func clusterStatus(ctx context.Context) api.Status {
	s := townStatus(ctx)
	inIt := townCluster{}.Status()
	s.Cluster = &inIt
	return s
}

// townCluster is the cluster that the host of clusterTown is in.
type townCluster struct{}

func (townCluster) Self() cluster.Host { return townHost(0) }

func (townCluster) Status() api.Cluster {
	return api.Cluster{
		Etcd: []string{"http://192.0.2.8:2379", "http://192.0.2.9:2379"}, LastContact: townDay,
		Address: townHost(0).VTEP, Port: 6784, Hosts: 3, Probed: 2, Faulty: 1,
	}
}

// Tunnels returns what was found of the ways to the hosts that are there, and of one that has gone since.
func (townCluster) Tunnels() map[string]api.Tunnel {
	since := time.Now().Add(-2*time.Hour - time.Minute)
	return map[string]api.Tunnel{
		townHost(1).ID: {Since: since, Probed: townDay, RoundTrip: 0.00042},
		townHost(2).ID: {Since: since, Probed: townDay, RoundTrip: 0.001},
		townHost(4).ID: {Since: since, Probed: townDay, Fault: "mtu-out", Text: "large frames don't arrive there"},
	}
}

// cutOff is that cluster while etcd does not answer.
type cutOff struct{ townCluster }

func (c cutOff) Status() api.Cluster {
	s := c.townCluster.Status()
	s.Error = "refused"
	return s
}

// Holdings returns many blocks of this host and an address of a host that has gone.
func (townCluster) Holdings(context.Context, string) (map[string][]netip.Prefix, error) {
	held := map[string][]netip.Prefix{townHost(2).ID: {netip.MustParsePrefix("10.32.1.7/32")}}
	for n := range 7 {
		block := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, 0, byte(16 * n)}), 28)
		held[townHost(0).ID] = append(held[townHost(0).ID], block)
	}
	return held, nil
}

// Forget takes the first two hosts for present.
func (townCluster) Forget(_ context.Context, id string) error {
	if id < townHost(2).ID {
		return fmt.Errorf("%w: stop weave on it", cluster.ErrPresent)
	}
	return nil
}

func (townCluster) Blocks(string) []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.32.0.0/28")}
}

func (cutOff) Holdings(context.Context, string) (map[string][]netip.Prefix, error) {
	return nil, cluster.ErrUnreachable
}

func (townCluster) HostName(id string) string { return townHost(int(id[0] - '0')).Name }

// Remotes returns two endpoints of the second host; the name of a container is malicious.
func (townCluster) Remotes(string) ([]cluster.Remote, bool) {
	remote := func(n byte, name string) cluster.Remote {
		return cluster.Remote{Endpoint: cluster.Endpoint{
			ID: townID(fmt.Sprintf("ffff%d", n)), Host: townHost(1).ID, ContainerName: name,
			ContainerID: townID(fmt.Sprintf("dddd%d", n)),
			MAC:         mac.Address{0: 2, 4: 1, 5: n},
			Addresses:   []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, 1, n}), 22)},
		}}
	}
	return []cluster.Remote{remote(2, "web"), remote(3, "db\x1b[2J")}, true
}

// townHost returns one of the hosts; the name of the third is malicious.
func townHost(n int) cluster.Host {
	return cluster.Host{
		ID: fmt.Sprintf("%d123456789abcdef", n), Name: []string{"host1", "host2", "host3\x1b[2J", "host4", "host5"}[n],
		VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(n + 1)}), Since: townDay,
	}
}

// Hosts returns hosts in all states.
func (townCluster) Hosts() []cluster.HostStatus {
	return []cluster.HostStatus{
		{Host: townHost(0), Present: true, Endpoints: 3},
		{Host: townHost(1), Present: true, Endpoints: 12},
		{Host: townHost(2), GoneSince: time.Now().Add(-5*time.Minute - 10*time.Second)},
		{Host: townHost(3)},
		{Host: townHost(4), Present: true, Endpoints: 1},
	}
}

func TestAge(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s":  -time.Second, // clocks are put back
		"59s": time.Minute - 1, "1m": time.Minute, "59m": time.Hour - 1, "23h": 24*time.Hour - 1, "2d": 50 * time.Hour,
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %s, want %s", d, got, want)
		}
	}
}

// TestEtcdAnswers: what the status says of an etcd that is away, or was never there.
func TestEtcdAnswers(t *testing.T) {
	for want, c := range map[string]api.Cluster{
		"etcd answers, last at 2026-08-01T12:00:00Z": {LastContact: townDay},
		"etcd does not answer (last at 2026-08-01T12:00:00Z), what is known of other hosts may be old: refused": {
			LastContact: townDay, Error: "refused",
		},
		"etcd does not answer (never yet), what is known of other hosts may be old: refused": {
			Error: "refused",
		},
	} {
		if got := etcdAnswers(&c); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}
