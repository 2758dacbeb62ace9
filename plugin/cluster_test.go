// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
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
	cfg.Cluster = clusterConfig(etcd)
	address := cfg.Cluster.Address
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

// clusterConfig returns the settings of a host at etcd.
func clusterConfig(etcd *etcdtest.Etcd) daemon.ClusterConfig {
	return daemon.ClusterConfig{
		Endpoints: []string{strings.TrimPrefix(etcd.URLs()[0], "http://")}, Prefix: cluster.DefaultPrefix,
		Address: netip.MustParseAddr("192.0.2.1"), Port: 6784, Lease: time.Second, Grace: time.Hour,
	}
}

// TestRemovedWithoutCluster: networks and pools of the cluster that are removed while weave runs without it are left
// when it is back; the others are not.
func TestRemovedWithoutCluster(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	for _, command := range []string{"link add underlay type bridge", "address add 192.0.2.1/24 dev underlay"} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, out)
		}
	}
	etcd := etcdtest.Start(t, 1)
	client := etcd.Client(t)
	isThere := func(network string) bool {
		answer, err := client.Get(t.Context(), "weave/networks/"+network)
		if err != nil {
			t.Fatal(err)
		}
		return answer.Count > 0
	}
	cfg := newConfig(t)
	post := func(name, body string, answer any) {
		t.Helper()
		status, text, err := call(cfg.PluginSockets[0], name, body)
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal([]byte(text), answer)
		}
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s, %v", name, status, text, err)
		}
	}
	var nothing struct{}
	stop := func(d *running) {
		t.Helper()
		d.stop()
		if err := d.ended(t); err != nil {
			t.Fatal(err)
		}
	}

	inCluster := cfg
	inCluster.Cluster = clusterConfig(etcd)
	d := startDaemon(t, inCluster)
	var pool struct{ PoolID string }
	for _, network := range []string{"kept-pool", "lost-pool"} {
		post("IpamDriver.RequestPool", fmt.Sprintf(
			`{"AddressSpace":"weavelocal","Options":{"works.weave.network":"%s"}}`, network), &pool)
	}
	ids := map[string]string{"kept": strings.Repeat("a", 64), "lost": strings.Repeat("b", 64)}
	for network, subnet := range map[string]string{"kept": "10.50.0.0/16", "lost": "10.51.0.0/16"} {
		post("NetworkDriver.CreateNetwork", fmt.Sprintf(`{"NetworkID":"%s",`+
			`"IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"%s"}],"Options":{"com.docker.network.internal":true,`+
			`"com.docker.network.generic":{"works.weave.network":"%s"}}}`, ids[network], subnet, network), &nothing)
	}
	stop(d)
	d = startDaemon(t, cfg)
	post("IpamDriver.ReleasePool", fmt.Sprintf(`{"PoolID":"%s"}`, pool.PoolID), &nothing)
	post("NetworkDriver.DeleteNetwork", fmt.Sprintf(`{"NetworkID":"%s"}`, ids["lost"]), &nothing)
	stop(d)
	if !isThere("lost") || !isThere("lost-pool") {
		t.Error("etcd does not have what nobody has told it of")
	}
	startDaemon(t, inCluster)
	// They are left in the order of their names, so what is kept would be gone by then, too.
	eventually(t, "what was removed is left", func() bool { return !isThere("lost") && !isThere("lost-pool") })
	if !isThere("kept") || !isThere("kept-pool") {
		t.Error("what this host has was left, too")
	}
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
