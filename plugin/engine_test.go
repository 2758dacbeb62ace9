package main

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/dockerapi"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/store"
)

// fakeDocker is a Docker that says what it is told to.
type fakeDocker struct {
	mu      sync.Mutex // guards err and asked
	known   dockerapi.Known
	err     error
	names   map[string]string
	unreach error
	asked   int
}

func (f *fakeDocker) Known(context.Context) (dockerapi.Known, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	f.known.Drivers = []string{"weave"}
	return f.known, f.err
}

func (f *fakeDocker) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeDocker) NetworkName(id string) string { return f.names[id] }
func (f *fakeDocker) Reachable() error             { return f.unreach }

// fakeTracker notes what it is asked to do.
type fakeTracker struct {
	mu        sync.Mutex // guards known and before
	networks  []driver.Network
	endpoints []driver.Endpoint
	adopted   []*network.CreateNetworkRequest
	with      []driver.Endpoint // adopted
	known     []map[driver.EndpointID]bool
	before    []time.Time
	deleted   []string
}

func (f *fakeTracker) Networks() []driver.Network   { return f.networks }
func (f *fakeTracker) Endpoints() []driver.Endpoint { return f.endpoints }

func (f *fakeTracker) Adopt(_ context.Context, req *network.CreateNetworkRequest, endpoints []driver.Endpoint) error {
	f.adopted, f.with = append(f.adopted, req), append(f.with, endpoints...)
	if !slices.ContainsFunc(f.networks, func(nw driver.Network) bool { return string(nw.ID) == req.NetworkID }) {
		f.networks = append(f.networks, driver.Network{ID: driver.NetworkID(req.NetworkID)})
	}
	f.endpoints = append(f.endpoints, endpoints...)
	return nil
}

func (f *fakeTracker) Forget(_ context.Context, known map[driver.EndpointID]bool, before time.Time) ([]driver.EndpointID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.before = append(f.known, known), append(f.before, before)
	return nil, nil
}

func (f *fakeTracker) DeleteNetwork(_ context.Context, req *network.DeleteNetworkRequest) error {
	f.deleted = append(f.deleted, req.NetworkID)
	f.networks = slices.DeleteFunc(f.networks, func(nw driver.Network) bool { return string(nw.ID) == req.NetworkID })
	return nil
}

// newEngine is an engine whose state is an hour old to it, so that nothing is too young to be forgotten.
func newEngine(t *testing.T) (*engine, *fakeDocker, *fakeTracker, *ipam.IPAM) {
	t.Helper()
	st, err := store.OpenBolt(t.Context(), filepath.Join(t.TempDir(), "weave.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	pools, err := ipam.New(ipam.Options{Store: st, Log: quiet(), Routes: func(context.Context) ([]netip.Prefix, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := pools.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	docker, tracker := &fakeDocker{names: map[string]string{}}, &fakeTracker{}
	timing := defaultEngineTiming
	timing.grace = -time.Hour
	return &engine{docker: docker, networks: tracker, pools: pools, timing: timing, log: quiet()}, docker, tracker, pools
}

// compareTwice compares two readings of the same.
func compareTwice(t *testing.T, e *engine) {
	t.Helper()
	first, err := e.compare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.compare(t.Context(), first); err != nil {
		t.Fatal(err)
	}
}

var (
	subnetA = netip.MustParsePrefix("10.40.0.0/24")
	subnetB = netip.MustParsePrefix("10.41.0.0/24")
)

// requestPool makes a pool of subnet with addresses held, and returns its id.
func requestPool(t *testing.T, pools *ipam.IPAM, space string, subnet netip.Prefix, addresses ...string) string {
	t.Helper()
	pool, err := pools.RequestPool(t.Context(), &dockeripam.RequestPoolRequest{AddressSpace: space, Pool: subnet.String()})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if _, err := pools.RequestAddress(t.Context(), &dockeripam.RequestAddressRequest{PoolID: pool.PoolID, Address: a}); err != nil {
			t.Fatal(err)
		}
	}
	return pool.PoolID
}

// held lists the addresses that the pools hold; a pool that is gone is missing.
func held(pools *ipam.IPAM) map[string][]string {
	out := map[string][]string{}
	for _, p := range pools.Pools() {
		out[p.ID] = []string{}
		for _, a := range pools.Addresses(p.ID) {
			out[p.ID] = append(out[p.ID], a.Address.String())
		}
	}
	return out
}

func localNetwork(id string, subnets ...dockerapi.Subnet) dockerapi.Network {
	return dockerapi.Network{ID: id, Driver: "weave", IPAMDriver: "weave", Scope: "local", IPv4: true, Subnets: subnets}
}

func TestOneReadingForgetsNothing(t *testing.T) {
	e, _, tracker, pools := newEngine(t)
	requestPool(t, pools, ipam.LocalSpace, subnetA)
	if _, err := e.compare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if len(tracker.known) != 0 || len(held(pools)) != 1 {
		t.Errorf("forget %v, pools %v", tracker.known, held(pools))
	}
}

func TestFailedReadingForgetsNothing(t *testing.T) {
	e, docker, tracker, pools := newEngine(t)
	requestPool(t, pools, ipam.LocalSpace, subnetA)
	first, err := e.compare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	docker.err = errors.New("inspect: broken off")
	latest, err := e.compare(t.Context(), first)
	if !errors.Is(err, docker.err) || latest != nil {
		t.Errorf("%v, %v; want the error, and that the row begins anew", latest, err)
	}
	if len(tracker.known) != 0 || len(held(pools)) != 1 {
		t.Errorf("forget %v, pools %v", tracker.known, held(pools))
	}
}

func TestKnownInEitherReadingIsKept(t *testing.T) {
	e, docker, tracker, _ := newEngine(t)
	e.timing.grace = time.Minute
	docker.known.Endpoints = []dockerapi.Endpoint{{ID: "old"}, {ID: "both"}}
	first, err := e.compare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	docker.known.Endpoints = []dockerapi.Endpoint{{ID: "both"}, {ID: "new"}}
	if _, err := e.compare(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	want := []map[driver.EndpointID]bool{{"old": true, "both": true, "new": true}}
	if diff := cmp.Diff(want, tracker.known); diff != "" {
		t.Errorf("known (-want +got):\n%s", diff)
	}
	if got := tracker.before[0]; !got.Equal(first.begun.Add(-time.Minute)) {
		t.Errorf("before %v, want a minute before the first reading, %v", got, first.begun)
	}
}

func TestNetworkThatDockerForgotIsRemoved(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	for _, c := range []struct {
		name   string
		change func(*engine, *fakeDocker, *fakeTracker)
		gone   bool
	}{
		{"forgotten", func(*engine, *fakeDocker, *fakeTracker) {}, true},
		{"known", func(_ *engine, d *fakeDocker, _ *fakeTracker) {
			d.known.Networks = []dockerapi.Network{localNetwork(networkID, dockerapi.Subnet{Subnet: subnetA})}
		}, false},
		{"has an endpoint that lives", func(_ *engine, _ *fakeDocker, f *fakeTracker) {
			f.endpoints = []driver.Endpoint{{ID: endpointID, Network: networkID}}
		}, false},
		{"of another driver name", func(_ *engine, d *fakeDocker, _ *fakeTracker) { d.names[networkID] = "app" }, false},
		{"names not to be had", func(_ *engine, d *fakeDocker, _ *fakeTracker) { d.unreach = errors.New("refused") }, false},
		{"too young", func(e *engine, _ *fakeDocker, f *fakeTracker) {
			e.timing.grace = time.Minute
			f.networks[0].Created = time.Now()
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, docker, tracker, pools := newEngine(t)
			id := requestPool(t, pools, ipam.LocalSpace, subnetA, "10.40.0.1")
			tracker.networks = []driver.Network{{ID: networkID, Created: old,
				Pools: []driver.Pool{{Subnet: subnetA, Gateway: netip.MustParseAddr("10.40.0.1")}}}}
			c.change(e, docker, tracker)
			compareTwice(t, e)
			if gone := len(tracker.deleted) == 1; gone != c.gone {
				t.Errorf("deleted %v, want %v", tracker.deleted, c.gone)
			}
			if _, ok := held(pools)[id]; ok == c.gone {
				t.Errorf("pools %v; gone: want %v", held(pools), c.gone)
			}
		})
	}
}

// TestOnlyForgottenAddressesAreReleased goes through all that may hold an address.
func TestOnlyForgottenAddressesAreReleased(t *testing.T) {
	full := dockerapi.Subnet{Subnet: subnetA, Gateway: netip.MustParseAddr("10.40.0.1"),
		Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.40.0.2")}}
	endpoint := dockerapi.Endpoint{ID: endpointID, Network: networkID, Addresses: []netip.Prefix{netip.MustParsePrefix("10.40.0.3/24")}}
	addresses := []string{"10.40.0.1", "10.40.0.2", "10.40.0.3", "10.40.0.4"}
	for _, c := range []struct {
		name    string
		space   string
		network func(*dockerapi.Network)
		tracked []driver.Endpoint
		want    []string
	}{
		{"Docker knows three", ipam.LocalSpace, nil, nil, addresses[:3]},
		{"the driver knows the fourth", ipam.LocalSpace, nil,
			[]driver.Endpoint{{ID: "f", Network: networkID, Addresses: []netip.Prefix{netip.MustParsePrefix("10.40.0.4/24")}}}, addresses},
		{"network of another driver", ipam.LocalSpace, func(n *dockerapi.Network) { n.Driver = "macvlan" }, nil, addresses},
		{"network of Swarm's", ipam.LocalSpace, func(n *dockerapi.Network) { n.Scope = "swarm" }, nil, addresses},
		{"Swarm's address space", ipam.GlobalSpace, nil, nil, addresses},
		{"no network", ipam.LocalSpace, func(n *dockerapi.Network) { n.Subnets = nil }, nil, addresses},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, docker, tracker, pools := newEngine(t)
			id := requestPool(t, pools, c.space, subnetA, addresses...)
			n := localNetwork(networkID, full)
			if c.network != nil {
				c.network(&n)
			}
			docker.known = dockerapi.Known{Networks: []dockerapi.Network{n}, Endpoints: []dockerapi.Endpoint{endpoint}}
			tracker.networks = []driver.Network{{ID: networkID}}
			tracker.endpoints = append(c.tracked, driver.Endpoint{ID: endpointID, Network: networkID})
			compareTwice(t, e)
			got := held(pools)[id]
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("held (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEmptyPoolWithoutNetworkIsReleased(t *testing.T) {
	e, _, _, pools := newEngine(t)
	requestPool(t, pools, ipam.LocalSpace, subnetA)
	swarm := requestPool(t, pools, ipam.GlobalSpace, subnetB)
	compareTwice(t, e)
	if diff := cmp.Diff(map[string][]string{swarm: {}}, held(pools)); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
}

// TestEmptyStateTakesUpWhatDockerHas: the plugin was removed and installed again beside running containers.
func TestEmptyStateTakesUpWhatDockerHas(t *testing.T) {
	e, docker, tracker, pools := newEngine(t)
	n := localNetwork(networkID,
		dockerapi.Subnet{Subnet: subnetA, Gateway: netip.MustParseAddr("10.40.0.254"), Range: netip.MustParsePrefix("10.40.0.0/25")},
		dockerapi.Subnet{Subnet: netip.MustParsePrefix("fd00:40::/64")})
	n.Internal, n.Options = true, map[string]string{"works.weave.mtu": "1400"}
	docker.known = dockerapi.Known{
		Networks: []dockerapi.Network{n,
			{ID: "swarmnetwork0000000000000", Driver: "weave", IPAMDriver: "weave", Scope: "swarm"},
			{ID: "macvlan000000", Driver: "macvlan", IPAMDriver: "weave", Scope: "local", Subnets: []dockerapi.Subnet{{Subnet: subnetB}}},
		},
		Endpoints: []dockerapi.Endpoint{{ID: endpointID, Network: networkID, MAC: "02:00:00:00:00:01", Sandbox: "/var/run/docker/netns/1bcf64dc8437",
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.40.0.3/24"), netip.MustParsePrefix("fd00:40::3/64")}}},
	}
	compareTwice(t, e)
	wantRequest := []*network.CreateNetworkRequest{{
		NetworkID: networkID,
		Options: map[string]any{"com.docker.network.internal": true,
			"com.docker.network.generic": map[string]any{"works.weave.mtu": "1400"}},
		IPv4Data: []*network.IPAMData{{AddressSpace: ipam.LocalSpace, Pool: "10.40.0.0/24", Gateway: "10.40.0.254/24"}},
		IPv6Data: []*network.IPAMData{{AddressSpace: ipam.LocalSpace, Pool: "fd00:40::/64"}},
	}}
	if diff := cmp.Diff(wantRequest, tracker.adopted); diff != "" {
		t.Errorf("adopted (-want +got):\n%s", diff)
	}
	if len(tracker.with) != 1 || tracker.with[0].ID != endpointID || tracker.with[0].Sandbox == "" || len(tracker.with[0].Addresses) != 2 {
		t.Errorf("endpoints %+v", tracker.with)
	}
	wantHeld := map[string][]string{
		"weavelocal/10.40.0.0/24/10.40.0.0/25": {"10.40.0.3", "10.40.0.254"},
		"weavelocal/10.41.0.0/24":              {},
		"weavelocal/fd00:40::/64":              {"fd00:40::3"},
	}
	if diff := cmp.Diff(wantHeld, held(pools)); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

func TestEndpointOfSwarmsNetworkIsTakenUp(t *testing.T) {
	e, docker, tracker, _ := newEngine(t)
	docker.known = dockerapi.Known{
		Networks:  []dockerapi.Network{{ID: networkID, Driver: "weave", Scope: "swarm"}},
		Endpoints: []dockerapi.Endpoint{{ID: endpointID, Network: networkID}},
	}
	compareTwice(t, e)
	if len(tracker.adopted) != 1 || len(tracker.with) != 1 {
		t.Errorf("adopted %d networks, %d endpoints; want one each", len(tracker.adopted), len(tracker.with))
	}
}

// TestLateNetworkNeedsTwoReadings: it may have been removed since Docker was read.
func TestLateNetworkNeedsTwoReadings(t *testing.T) {
	e, docker, tracker, _ := newEngine(t)
	first, err := e.compare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	docker.known.Networks = []dockerapi.Network{localNetwork(networkID)}
	second, err := e.compare(t.Context(), first)
	if err != nil || len(tracker.adopted) != 0 {
		t.Fatalf("after one reading: adopted %v, %v", tracker.adopted, err)
	}
	if _, err := e.compare(t.Context(), second); err != nil || len(tracker.adopted) != 1 {
		t.Errorf("after two: adopted %v, %v", tracker.adopted, err)
	}
}

// TestRunReadsAtALowRate: two readings soon, then one a minute; after a failure two soon again.
func TestRunReadsAtALowRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docker, tracker := &fakeDocker{}, &fakeTracker{}
		e := &engine{docker: docker, networks: tracker, pools: noPools{}, timing: defaultEngineTiming, log: quiet()}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			e.run(ctx)
		}()
		at := func(d time.Duration, asked, forgot int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			docker.mu.Lock()
			defer docker.mu.Unlock()
			tracker.mu.Lock()
			defer tracker.mu.Unlock()
			if docker.asked != asked || len(tracker.known) != forgot {
				t.Errorf("read %d times, forgot %d times; want %d and %d", docker.asked, len(tracker.known), asked, forgot)
			}
		}
		at(0, 1, 0)
		at(10*time.Second, 2, 1)
		at(59*time.Second, 2, 1)
		at(time.Second, 3, 2)
		docker.fail(errors.New("engine is away"))
		at(time.Minute, 4, 2)
		docker.fail(nil)
		at(10*time.Second, 5, 2)
		at(10*time.Second, 6, 3)
		cancel()
		<-ended
	})
}

// noPools is an IPAM without pools.
type noPools struct{ poolTracker }

func (noPools) Pools() []ipam.Pool { return nil }
func (noPools) Forget(context.Context, string, ipam.Known, time.Time) ([]ipam.Forgotten, error) {
	return nil, nil
}
