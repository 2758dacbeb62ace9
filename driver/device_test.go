// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/store"
)

// newClusterRig returns a rig of a host of a cluster, with an etcd beside it.
func newClusterRig(t *testing.T) (*rig, *etcdtest.Etcd) {
	t.Helper()
	mustRun(t, "ip link add underlay type bridge")
	mustRun(t, "ip address add 192.0.2.1/24 dev underlay")
	etcd := etcdtest.Start(t, 1)
	dir := t.TempDir()
	r := &rig{
		t: t, nsproc: nstest.Nsproc(t), state: filepath.Join(dir, "weave.db"),
		endpoints: filepath.Join(dir, "endpoints.db"),
	}
	r.join = func(o *Options) (leave func()) {
		o.Tunnel = Tunnel{Local: netip.MustParseAddr("192.0.2.1"), Port: 6784}
		c, leave := joinCluster(t, etcd, cluster.Host{ID: o.StateID, Name: "here", VTEP: o.Tunnel.Local}, o.Store)
		o.Cluster = c
		return leave
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r, etcd
}

// joinCluster makes a host one of the cluster until leave is called.
func joinCluster(t *testing.T, etcd *etcdtest.Etcd, host cluster.Host, s store.Store) (
	c *cluster.Cluster, leave func(),
) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(testWriter{t})
	c, err := cluster.Open(t.Context(), cluster.Options{
		Endpoints: etcd.URLs(), Prefix: cluster.DefaultPrefix, Lease: time.Second, Grace: time.Hour, Store: s,
		Log: logrus.NewEntry(log), Host: host,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.SetEndpoints(nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, func() {
		cancel()
		if err := errors.Join(<-done, c.Close()); err != nil {
			t.Error(err)
		}
	}
}

// newOtherHost returns another host of the cluster, without a driver.
func newOtherHost(t *testing.T, etcd *etcdtest.Etcd) *cluster.Cluster {
	t.Helper()
	s, err := store.OpenBolt(t.Context(), filepath.Join(t.TempDir(), "other.db"))
	if err != nil {
		t.Fatal(err)
	}
	host := cluster.Host{ID: "other", Name: "other", VTEP: netip.MustParseAddr("192.0.2.2")}
	c, leave := joinCluster(t, etcd, host, s)
	t.Cleanup(func() {
		leave()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// ofCluster returns a network of the cluster.
func ofCluster(id NetworkID) NetworkSpec {
	spec := newNetwork(id)
	spec.Cluster = "app"
	return spec
}

// TestDeviceIsKept: a network of the cluster has a VXLAN device as a port of its bridge, which is kept as weave makes
// it, and goes with the network.
func TestDeviceIsKept(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, _ := newClusterRig(t)
	r.createNetwork(ofCluster(netID))
	checkProblems(t, r)
	nw := r.Networks()[0]
	if nw.MTU != 1450 || nw.VNI == 0 {
		t.Errorf("the network has MTU %d and VNI %d, want 1450 and one", nw.MTU, nw.VNI)
	}
	links := strings.NewReplacer("DEVICE", nw.Device(), "BRIDGE", nw.Bridge)
	for name, tt := range map[string]struct {
		commands []string
		told     string
	}{
		"deleted":   {[]string{"ip link del DEVICE"}, "missing"},
		"down":      {[]string{"ip link set DEVICE down"}, "down"},
		"unplugged": {[]string{"ip link set DEVICE nomaster"}, "port of no bridge"},
		"renamed":   {[]string{"ip link set DEVICE down", "ip link set DEVICE name mine"}, "renamed to mine"},
		"mtu":       {[]string{"ip link set DEVICE mtu 1400"}, "mtu 1400, not 1450"},
		"alias":     {[]string{"ip link set DEVICE alias mine"}, `alias "mine"`},
		"learning":  {[]string{"bridge link set dev DEVICE learning on"}, "learning 1, not 0"},
		"suppress":  {[]string{"bridge link set dev DEVICE neigh_suppress off"}, "neigh_suppress 0, not 1"},
		"programs":  {[]string{"tc qdisc del dev DEVICE clsact"}, "tc programs missing"},
	} {
		changes, _ := r.Subscribe(100)
		for _, command := range tt.commands {
			mustRun(t, links.Replace(command))
		}
		awaitRepair(t, r, changes, tt.told)
		changes.Close()
		eventually(t, name+": the device is as it was", func() bool {
			link, err := findHostLink(nw.Device())
			if err != nil || link == nil || len(r.Problems(t.Context())) != 0 {
				return false
			}
			return wantedDevice(r.stateID, nw, r.tunnel).device.Wrong(link.Link) == ""
		})
	}
	for when, commands := range map[string][]string{
		"a reboot":    {"ip link del DEVICE", "ip link del BRIDGE"},
		"another VNI": {"ip link del DEVICE", "ip link add DEVICE type vxlan id 7 dstport 4789 local 192.0.2.1"},
	} {
		r.stop()
		for _, command := range commands {
			mustRun(t, links.Replace(command))
		}
		r.start()
		checkProblems(t, r)
		link := mustLink(t, nw.Device())
		if text := wantedDevice(r.stateID, nw, r.tunnel).device.Wrong(link); text != "" {
			t.Errorf("after %s: %s", when, text)
		}
	}
	join := r.join
	r.stop()
	r.join = nil
	r.start()
	if got := r.Problems(t.Context()); len(got) != 1 || !strings.Contains(got[0], "start weave with --cluster") {
		t.Errorf("problems without a cluster: %q", got)
	}
	r.stop()
	r.join = join
	r.start()
	checkProblems(t, r)
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if left := ownLinks(t); len(left) != 0 {
		t.Errorf("links %v are left", left)
	}
}

// TestNetworkOfTheClusterIsRefused: what can't be one network with that of the other hosts is refused with the reason,
// and changes nothing.
func TestNetworkOfTheClusterIsRefused(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, etcd := newClusterRig(t)
	other := newOtherHost(t, etcd)
	_, err := other.Join(t.Context(), cluster.Network{Name: "app", MTU: 1400, Subnets: []cluster.Subnet{
		{Subnet: netip.MustParsePrefix("10.40.0.0/16")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Join(t.Context(), cluster.Network{Name: "jumbo", MTU: 8950}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*NetworkSpec)
		want   []string
	}{
		"another subnet": {
			func(spec *NetworkSpec) { spec.Pools[0].Subnet = netip.MustParsePrefix("10.41.0.0/16") },
			[]string{"10.40.0.0/16", "10.41.0.0/16"},
		},
		"another MTU":     {func(spec *NetworkSpec) { spec.MTU = 1300 }, []string{"1400", "1300"}},
		"too large here":  {func(spec *NetworkSpec) { spec.Cluster = "jumbo" }, []string{"8950", "1450"}},
		"too large":       {func(spec *NetworkSpec) { spec.MTU = 1500 }, []string{"1500", "1450"}},
		"a bad name":      {func(spec *NetworkSpec) { spec.Cluster = "a/b" }, []string{"a/b"}},
		"foreign bridge":  {func(spec *NetworkSpec) { spec.Bridge = "underlay" }, []string{"underlay"}},
		"used here twice": {func(spec *NetworkSpec) { spec.Cluster = "second" }, []string{"second"}},
	} {
		second := ofCluster("0123456789ab")
		second.Cluster = "second"
		second.Pools = nil
		r.createNetwork(second)
		spec := ofCluster(netID)
		tt.change(&spec)
		err := r.CreateNetwork(t.Context(), spec)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to name %s", name, err, want)
			}
		}
		if err := r.DeleteNetwork(t.Context(), second.ID); err != nil {
			t.Fatal(err)
		}
		if left := ownLinks(t); len(left) != 0 {
			t.Errorf("%s: links %v are left", name, left)
		}
		for _, network := range []string{"app", "jumbo", "second"} {
			if _, isMember := r.cluster.Network(network); isMember {
				t.Errorf("%s: this host is still on network %s of the cluster", name, network)
			}
		}
	}
}

// TestUnderlayShrinks: when less fits into a packet of the underlay than a network needs, that is told, as long as it
// is so; new networks have what fits.
func TestUnderlayShrinks(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, etcd := newClusterRig(t)
	mustRun(t, "ip link set underlay up")
	newOtherHost(t, etcd)
	r.createNetwork(ofCluster(netID))
	checkProblems(t, r)
	eventually(t, "the other host is there", func() bool { return len(present(r)) == 2 })
	for name, change := range map[string][2]string{
		"link":            {"ip link set underlay mtu 1450", "ip link set underlay mtu 1500"},
		"route to a host": {"ip route add 192.0.2.2 dev underlay mtu 1450", "ip route del 192.0.2.2"},
	} {
		mustRun(t, change[0])
		want := "its MTU is 1450, and only 1400 fits"
		if got := r.Problems(t.Context()); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: problems %q, want %q", name, got, want)
		}
		later := ofCluster(networkID(2))
		later.Cluster = "later"
		later.Pools = []Pool{{Subnet: netip.MustParsePrefix("10.44.0.0/16")}}
		r.createNetwork(later)
		if nw, _ := r.tracked.network(later.ID); nw.MTU != 1400 {
			t.Errorf("%s: a new network has MTU %d, want 1400", name, nw.MTU)
		}
		if err := r.DeleteNetwork(t.Context(), later.ID); err != nil {
			t.Fatal(err)
		}
		mustRun(t, change[1])
		checkProblems(t, r)
	}
}

// present returns the hosts of the cluster that are there.
func present(r *rig) (hosts []cluster.HostStatus) {
	return slices.DeleteFunc(r.cluster.Hosts(), func(h cluster.HostStatus) bool { return !h.Present })
}

// TestEndpointOfAnotherHost: an address or a MAC that another host has is refused with the names of host and
// container.
func TestEndpointOfAnotherHost(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, etcd := newClusterRig(t)
	r.createNetwork(ofCluster(netID))
	other := newOtherHost(t, etcd)
	subnet := netip.MustParsePrefix("10.40.0.0/16")
	if _, err := other.Join(t.Context(), cluster.Network{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	spec := newEndpoint(netID, 1)
	spec.MAC = mac.MustParse("02:00:00:00:00:07")
	if _, err := other.ClaimAddress(t.Context(), "app", subnet, spec.Addresses[0].Addr()); err != nil {
		t.Fatal(err)
	}
	other.SetEndpoints([]cluster.Endpoint{{
		ID: "e1", Network: "app", MAC: spec.MAC, Addresses: spec.Addresses[:1], ContainerName: "web",
	}})
	eventually(t, "the endpoint is seen", func() bool {
		remotes, _ := r.cluster.Remotes("app")
		return len(remotes) == 1
	})
	check := func(what string, spec EndpointSpec) {
		t.Helper()
		_, err := r.CreateEndpoint(t.Context(), spec)
		if !errors.Is(err, cluster.ErrConflict) || !strings.Contains(err.Error(), "container web on host other") {
			t.Errorf("%s: %v, want an error that names the container and the host", what, err)
		}
	}
	check("the MAC", spec)
	spec.MAC = mac.Address{}
	check("the address", spec)
	free := newEndpoint(netID, 2)
	if _, err := r.CreateEndpoint(t.Context(), free); err != nil {
		t.Errorf("a free address: %v", err)
	}
	if err := r.DeleteEndpoint(t.Context(), netID, free.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ClaimAddress(t.Context(), "app", subnet, free.Addresses[0].Addr()); err != nil {
		t.Errorf("the address of an endpoint that is gone: %v", err)
	}
}

// TestNetworkOfSwarm: a network of scope global is one of the cluster, by its own id, also when Docker makes it again,
// while one that was made before the host was in a cluster stays the host's alone.
func TestNetworkOfSwarm(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, _ := newClusterRig(t)
	spec := newNetwork(netID)
	spec.Swarm = true
	for range 2 {
		r.createNetwork(spec)
	}
	if nw := r.Networks()[0]; nw.Cluster != string(netID) || nw.VNI == 0 {
		t.Errorf("it is network %q of the cluster with VNI %d, want its own id and one", nw.Cluster, nw.VNI)
	}
	named := newNetwork(networkID(2))
	named.Swarm, named.Cluster = true, "app"
	named.Pools = []Pool{{Subnet: netip.MustParsePrefix("10.44.0.0/16")}}
	r.createNetwork(named)
	if nw, _ := r.tracked.network(named.ID); nw.Cluster != "app" {
		t.Errorf("a network that names the cluster's is %q, want app", nw.Cluster)
	}

	old, _ := r.tracked.network(netID)
	if old.Cluster, old.VNI = "", 0; !spec.matches(old) {
		t.Error("one that was made without a cluster is refused when Docker makes it again")
	}
}

// TestNetworkOfTheClusterIsAdopted: when the state is lost the network is one of the cluster again, with the same VNI,
// and so is its container.
func TestNetworkOfTheClusterIsAdopted(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, etcd := newClusterRig(t)
	r.createNetwork(ofCluster(netID))
	other := newOtherHost(t, etcd)
	if _, err := other.Join(t.Context(), cluster.Network{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	old := r.Networks()[0]
	id, address := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	r.attach(id, sandbox, "eth0")
	index := mustLink(t, hostEndName(id)).Attrs().Index
	r.stop()
	for _, file := range []string{r.state, r.endpoints} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	known := []AdoptedEndpoint{adopted(id, address, newEndpoint(netID, 1).Addresses, sandbox.Path())}
	if err := r.Adopt(t.Context(), ofCluster(netID), known); err != nil {
		t.Fatal(err)
	}
	nw, _ := r.tracked.network(netID)
	if nw.Cluster != "app" || nw.VNI != old.VNI || nw.MTU != old.MTU {
		t.Errorf("adopted as network %q with VNI %d and MTU %d, want app, %d and %d",
			nw.Cluster, nw.VNI, nw.MTU, old.VNI, old.MTU)
	}
	if master := mustLink(t, nw.Device()).Attrs().MasterIndex; master != mustLink(t, nw.Bridge).Attrs().Index {
		t.Error("its VXLAN device is no port of its bridge")
	}
	if mustLink(t, hostEndName(id)).Attrs().Index != index {
		t.Error("the host end is another one")
	}
	checkProblems(t, r)
}
