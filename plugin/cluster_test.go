// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/plugin/daemon"
	"github.com/weaveplugin/weave/store"
)

// TestClusterIsListed: the API tells of the cluster's hosts, and whether etcd answers; without a cluster, of neither.
func TestClusterIsListed(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	alone := newConfig(t)
	startDaemon(t, alone)
	if s, hosts := ofCluster(t, alone); s != nil || len(hosts) != 0 {
		t.Errorf("without a cluster: %+v and hosts %+v", s, hosts)
	}

	etcd := etcdtest.Start(t, 1)
	cfg := newConfig(t)
	address := netip.MustParseAddr("192.0.2.1")
	cfg.Cluster = daemon.ClusterConfig{
		Endpoints: []string{strings.TrimPrefix(etcd.URLs()[0], "http://")}, Prefix: cluster.DefaultPrefix,
		Address: address, Port: 6784, Lease: time.Second, Grace: time.Hour,
	}
	startDaemon(t, cfg)
	eventually(t, "this host is in the cluster", func() bool {
		s, hosts := ofCluster(t, cfg)
		return s.Hosts == 1 && len(hosts) == 1 && hosts[0].Present
	})
	s, hosts := ofCluster(t, cfg)
	if h := hosts[0]; !h.Self || h.ID == "" || h.Name == "" || h.Address != address || h.Since.IsZero() {
		t.Errorf("host %+v, want this one", h)
	}
	if !slices.Equal(s.Etcd, etcd.URLs()) || s.LastContact.IsZero() || s.Address != address || s.Port != 6784 {
		t.Errorf("cluster %+v, want etcd's URLs and this host's address", s)
	}
	record, err := etcd.Client(t).Get(t.Context(), "weave/hosts/"+hosts[0].ID)
	if err != nil || len(record.Kvs) != 1 || !strings.Contains(string(record.Kvs[0].Value), `"port":6784`) {
		t.Errorf("other hosts are told %+v, %v, want the port in it", record, err)
	}
	eventually(t, "etcd answers", func() bool { s, _ := ofCluster(t, cfg); return s.Error == "" })
	etcd.Kill(t, 0)
	eventually(t, "etcd is known to be away", func() bool { s, _ := ofCluster(t, cfg); return s.Error != "" })
}

// TestAddressOfBefore: a host whose network is not there yet has the address that it had last.
func TestAddressOfBefore(t *testing.T) {
	if nstest.Reexec(t) { // into a namespace that has no route to anywhere
		return
	}
	state, err := store.OpenBolt(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = state.Close() })
	log := logrus.NewEntry(logrus.New())
	away := daemon.ClusterConfig{Endpoints: []string{"198.51.100.1:2379"}}
	if got, err := knownAddress(t.Context(), away, state, log); err == nil {
		t.Errorf("%s, though this host never had an address", got)
	}
	want := netip.MustParseAddr("192.0.2.1")
	for _, cfg := range []daemon.ClusterConfig{{Address: want}, away} {
		if got, err := knownAddress(t.Context(), cfg, state, log); err != nil || got != want {
			t.Errorf("%+v: %s, %v, want %s", cfg, got, err, want)
		}
	}
}

// ofCluster returns what the API of a daemon tells of the cluster.
func ofCluster(t *testing.T, cfg daemon.Config) (*api.Cluster, []api.Host) {
	t.Helper()
	client := api.NewClient(cfg.APISocket)
	status, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := client.Hosts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Cluster, hosts
}
