// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/store"
)

// quiet returns a log that nobody reads.
func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

const (
	networkID  = "7d2a4352179e00f14c5fbe322bff4b586f4cef09e5a4bda73851b8725299a4bc"
	endpointID = "3345ac4971c9e239a8690fd27572bb369374017ee2c95f6faa11225d4a09c855"
)

// fakeReader is a Docker that answers what it is set to.
type fakeReader struct {
	mu       sync.Mutex // guards err and readings
	known    Known
	err      error
	readings int
}

func (f *fakeReader) Known(context.Context) (Known, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readings++
	f.known.Drivers = []string{"weave"}
	return f.known, f.err
}

func (f *fakeReader) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// fakeTracker is a driver that records its calls.
type fakeTracker struct {
	mu        sync.Mutex // guards known and before
	networks  []driver.Network
	endpoints []driver.Endpoint
	adopted   []driver.NetworkSpec
	with      []driver.AdoptedEndpoint
	known     []map[driver.EndpointID]bool
	before    []time.Time
	deleted   []driver.NetworkID
	claims    []claims
	since     time.Time
}

// claims is a call of ReleaseClaims.
type claims struct {
	network driver.NetworkID
	known   []driver.EndpointID
	shared  []netip.Prefix
}

func (f *fakeTracker) DockerSince() time.Time       { return f.since }
func (f *fakeTracker) Networks() []driver.Network   { return f.networks }
func (f *fakeTracker) Endpoints() []driver.Endpoint { return f.endpoints }

func (f *fakeTracker) Adopt(
	_ context.Context, spec driver.NetworkSpec, endpoints []driver.AdoptedEndpoint,
) error {
	f.adopted, f.with = append(f.adopted, spec), append(f.with, endpoints...)
	if !slices.ContainsFunc(f.networks, func(nw driver.Network) bool { return nw.ID == spec.ID }) {
		f.networks = append(f.networks, driver.Network{Definition: spec.Definition})
	}
	for _, ep := range endpoints {
		f.endpoints = append(f.endpoints, driver.Endpoint{
			ID: ep.ID, Network: ep.Network, MAC: ep.MAC, Addresses: ep.Addresses, Sandbox: ep.Sandbox,
		})
	}
	return nil
}

func (f *fakeTracker) Forget(_ context.Context, known map[driver.EndpointID]bool, before time.Time) (
	[]driver.EndpointID, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.before = append(f.known, known), append(f.before, before)
	return nil, nil
}

func (f *fakeTracker) DeleteNetwork(_ context.Context, id driver.NetworkID) error {
	f.deleted = append(f.deleted, id)
	f.networks = slices.DeleteFunc(f.networks, func(nw driver.Network) bool { return nw.ID == id })
	return nil
}

func (f *fakeTracker) ReleaseClaims(
	_ context.Context, id driver.NetworkID, known []driver.AdoptedEndpoint, shared []netip.Prefix,
) error {
	c := claims{network: id, shared: shared}
	for _, ep := range known {
		c.known = append(c.known, ep.ID)
	}
	f.claims = append(f.claims, c)
	return nil
}

// newComparison returns a Comparison, to which everything is an hour older than it is and so old enough to be
// forgotten, and its parts.
func newComparison(t *testing.T) (*Comparison, *fakeReader, *fakeTracker, *ipam.IPAM) {
	t.Helper()
	st, err := store.OpenBolt(t.Context(), filepath.Join(t.TempDir(), "weave.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	routes := func(context.Context) ([]netip.Prefix, error) { return nil, nil }
	pools, err := ipam.New(ipam.Options{Store: st, Log: quiet(), Routes: routes})
	if err != nil {
		t.Fatal(err)
	}
	if err := pools.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	docker, tracker := &fakeReader{}, &fakeTracker{}
	timing := NewTiming(time.Minute)
	timing.Grace, timing.HurryGrace = -time.Hour, -time.Hour
	c := NewComparison(ComparisonOptions{
		Docker: docker, Networks: tracker, Pools: pools, Timing: timing, Log: quiet(),
	})
	return c, docker, tracker, pools
}

// compareTwice compares twice, with the same answers of Docker.
func compareTwice(t *testing.T, c *Comparison) {
	t.Helper()
	first, err := c.compare(t.Context(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.compare(t.Context(), first, false); err != nil {
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
	pool, err := pools.RequestPool(t.Context(), ipam.PoolRequest{Space: space, Subnet: subnet})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if _, err := pools.RequestAddress(t.Context(), pool.ID, netip.MustParseAddr(a)); err != nil {
			t.Fatal(err)
		}
	}
	return string(pool.ID)
}

// held lists the addresses that the pools hold; a pool that is gone is missing.
func held(pools *ipam.IPAM) map[string][]string {
	out := map[string][]string{}
	for _, p := range pools.Pools() {
		id := string(p.ID)
		out[id] = []string{}
		for _, a := range pools.Addresses(p.ID) {
			out[id] = append(out[id], a.Address.String())
		}
	}
	return out
}

func localNetwork(id driver.NetworkID, subnets ...Subnet) Network {
	return Network{ID: id, Driver: "weave", IPAMDriver: "weave", Scope: "local", IPv4: true, Subnets: subnets}
}

func TestTiming(t *testing.T) {
	for interval, want := range map[time.Duration]Timing{
		time.Minute: {
			Interval: time.Minute, Retry: 10 * time.Second, Grace: time.Minute, Deadline: 45 * time.Second,
			HurryPause: time.Second, HurryGrace: 30 * time.Second,
		},
		6 * time.Second: {
			Interval: 6 * time.Second, Retry: time.Second, Grace: 6 * time.Second, Deadline: 5 * time.Second,
			HurryPause: time.Second, HurryGrace: 6 * time.Second,
		},
		time.Hour: { // rarer, but the first comparison is no later
			Interval: time.Hour, Retry: 10 * time.Second, Grace: time.Hour, Deadline: 45 * time.Second,
			HurryPause: time.Second, HurryGrace: 30 * time.Second,
		},
	} {
		if diff := cmp.Diff(want, NewTiming(interval)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", interval, diff)
		}
	}
}

// TestRunReadsAtALowRate: two readings within seconds, then one a minute; after a failure two within seconds again.
func TestRunReadsAtALowRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docker, tracker := &fakeReader{}, &fakeTracker{}
		c := NewComparison(ComparisonOptions{
			Docker: docker, Networks: tracker, Pools: noPools{}, Timing: NewTiming(time.Minute), Log: quiet(),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Run(ctx)
		}()
		at := func(d time.Duration, readings, forgot int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			docker.mu.Lock()
			defer docker.mu.Unlock()
			tracker.mu.Lock()
			defer tracker.mu.Unlock()
			if docker.readings != readings || len(tracker.known) != forgot {
				t.Errorf("read %d times, forgot %d times; want %d and %d",
					docker.readings, len(tracker.known), readings, forgot)
			}
		}
		at(0, 1, 0)
		at(10*time.Second, 2, 1)
		at(59*time.Second, 2, 1)
		at(time.Second, 3, 2)
		docker.fail(errors.New("docker is away"))
		at(time.Minute, 4, 2)
		docker.fail(nil)
		at(10*time.Second, 5, 2)
		at(10*time.Second, 6, 3)
		cancel()
		<-ended
	})
}

// TestRunHurries: two readings follow at once on a request, and however often it is repeated, no reading comes sooner
// after another than HurryPause.
func TestRunHurries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docker, tracker := &fakeReader{}, &fakeTracker{since: time.Now()}
		c := NewComparison(ComparisonOptions{
			Docker: docker, Networks: tracker, Pools: noPools{}, Timing: NewTiming(time.Minute), Log: quiet(),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Run(ctx)
		}()
		at := func(d time.Duration, readings int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			docker.mu.Lock()
			defer docker.mu.Unlock()
			if docker.readings != readings {
				t.Errorf("read %d times, want %d", docker.readings, readings)
			}
		}
		at(0, 1)
		at(10*time.Second, 2)
		at(30*time.Second, 2)
		c.Hurry()
		at(0, 3)
		at(time.Second, 4)
		at(59*time.Second, 4)
		at(time.Second, 5) // and then at the usual rate
		at(30*time.Second, 5)
		for range 10 {
			for range 3 {
				c.Hurry()
			}
			time.Sleep(200 * time.Millisecond)
		}
		at(0, 8) // at 0, 1 and 2 s
		docker.fail(errors.New("docker is away"))
		at(time.Second, 9)
		docker.fail(nil)
		at(10*time.Second, 10) // the request is not forgotten
		at(time.Second, 11)
		cancel()
		<-ended
	})
}

// TestRunTakesUpSoon: what the state lacks when weave starts is taken up at once when a second reading agrees.
func TestRunTakesUpSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docker := &fakeReader{known: Known{Networks: []Network{{ID: networkID, Driver: "weave", Scope: "local"}}}}
		tracker := &fakeTracker{networks: []driver.Network{{Definition: driver.Definition{ID: "other"}}}}
		c := NewComparison(ComparisonOptions{
			Docker: docker, Networks: tracker, Pools: noPools{}, Timing: NewTiming(time.Minute), Log: quiet(),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Run(ctx)
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		cancel()
		<-ended
		if len(tracker.adopted) != 1 {
			t.Errorf("adopted %v within a second, want the network", tracker.adopted)
		}
	})
}

// noPools is an IPAM without pools.
type noPools struct{ *ipam.IPAM }

func (noPools) Pools() []ipam.Pool { return nil }
func (noPools) Forget(context.Context, string, ipam.Known, time.Time) ([]ipam.Forgotten, error) {
	return nil, nil
}
