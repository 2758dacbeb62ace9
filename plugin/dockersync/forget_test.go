// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

func TestOneReadingForgetsNothing(t *testing.T) {
	c, _, tracker, pools := newComparison(t)
	requestPool(t, pools, ipam.LocalSpace, subnetA)
	if _, err := c.compare(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	if len(tracker.known) != 0 || len(held(pools)) != 1 {
		t.Errorf("forget %v, pools %v", tracker.known, held(pools))
	}
}

func TestFailedReadingForgetsNothing(t *testing.T) {
	c, docker, tracker, pools := newComparison(t)
	requestPool(t, pools, ipam.LocalSpace, subnetA)
	first, err := c.compare(t.Context(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	docker.err = errors.New("inspect: broken off")
	latest, err := c.compare(t.Context(), first, false)
	if !errors.Is(err, docker.err) || latest != nil {
		t.Errorf("%v, %v; want the error, and no reading", latest, err)
	}
	if len(tracker.known) != 0 || len(held(pools)) != 1 {
		t.Errorf("forget %v, pools %v", tracker.known, held(pools))
	}
}

func TestKnownInEitherReadingIsKept(t *testing.T) {
	c, docker, tracker, _ := newComparison(t)
	c.timing.Grace = time.Minute
	docker.known.Endpoints = []Endpoint{{ID: "old"}, {ID: "both"}}
	first, err := c.compare(t.Context(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	docker.known.Endpoints = []Endpoint{{ID: "both"}, {ID: "new"}}
	if _, err := c.compare(t.Context(), first, false); err != nil {
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

// poolsOf is an IPAM that has these pools, of which no address is held.
type poolsOf struct {
	noPools
	pools []ipam.Pool
}

func (p poolsOf) Pools() []ipam.Pool                 { return p.pools }
func (poolsOf) Addresses(ipam.PoolID) []ipam.Address { return nil }

// TestClaimsAreReleased: what networks of the cluster have claimed is released that neither of two readings has, but
// not what weave's IPAM hands out.
func TestClaimsAreReleased(t *testing.T) {
	c, docker, tracker, _ := newComparison(t)
	c.pools = poolsOf{pools: []ipam.Pool{{Subnet: subnetA, Network: "app"}, {Subnet: subnetB, Network: "other"}}}
	ofCluster := func(id, cluster string) driver.Network {
		return driver.Network{
			Definition: driver.Definition{ID: driver.NetworkID(id), Cluster: cluster},
			Local:      driver.Local{Created: time.Now()},
		}
	}
	tracker.networks = []driver.Network{
		ofCluster(networkID, "app"), ofCluster("alone", ""), ofCluster("unknown", "other"),
	}
	c.timing.Grace = time.Hour
	docker.known.Networks = []Network{localNetwork(networkID), localNetwork("alone")}
	docker.known.Endpoints = []Endpoint{{ID: "old", Network: networkID}, {ID: "others", Network: "alone"}}
	first, err := c.compare(t.Context(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(tracker.claims) != 0 {
		t.Errorf("after one reading: %v", tracker.claims)
	}
	docker.known.Endpoints = []Endpoint{{ID: "new", Network: networkID}}
	if _, err := c.compare(t.Context(), first, false); err != nil {
		t.Fatal(err)
	}
	want := []claims{{networkID, []driver.EndpointID{"old", "new"}, []netip.Prefix{subnetA}}}
	options := []cmp.Option{cmp.AllowUnexported(claims{}), cmpopts.EquateComparable(netip.Prefix{})}
	if diff := cmp.Diff(want, tracker.claims, options...); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestNetworkThatDockerForgotIsRemoved(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	for _, tt := range []struct {
		name   string
		change func(*Comparison, *fakeReader, *fakeTracker)
		gone   bool
	}{
		{"forgotten", func(*Comparison, *fakeReader, *fakeTracker) {}, true},
		{"known", func(_ *Comparison, d *fakeReader, _ *fakeTracker) {
			d.known.Networks = []Network{localNetwork(networkID, Subnet{Subnet: subnetA})}
		}, false},
		{"has an endpoint that lives", func(_ *Comparison, _ *fakeReader, f *fakeTracker) {
			f.endpoints = []driver.Endpoint{{ID: endpointID, Network: networkID}}
		}, false},
		{"of another driver name", func(_ *Comparison, d *fakeReader, _ *fakeTracker) {
			d.known.Others = map[driver.NetworkID][]netip.Prefix{networkID: {}}
		}, false},
		{"too young", func(c *Comparison, _ *fakeReader, f *fakeTracker) {
			c.timing.Grace = time.Minute
			f.networks[0].Created = time.Now()
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, docker, tracker, pools := newComparison(t)
			id := requestPool(t, pools, ipam.LocalSpace, subnetA, "10.40.0.1")
			pool := driver.Pool{Subnet: subnetA, Gateway: netip.MustParseAddr("10.40.0.1")}
			tracker.networks = []driver.Network{{
				Definition: driver.Definition{ID: networkID, Pools: []driver.Pool{pool}},
				Local:      driver.Local{Created: old},
			}}
			tt.change(c, docker, tracker)
			compareTwice(t, c)
			if gone := len(tracker.deleted) == 1; gone != tt.gone {
				t.Errorf("deleted %v, want %v", tracker.deleted, tt.gone)
			}
			if _, ok := held(pools)[id]; ok == tt.gone {
				t.Errorf("pools %v; gone: want %v", held(pools), tt.gone)
			}
		})
	}
}

// TestOnlyForgottenAddressesAreReleased has a case for each thing that may hold an address.
func TestOnlyForgottenAddressesAreReleased(t *testing.T) {
	full := Subnet{Subnet: subnetA, Gateway: netip.MustParseAddr("10.40.0.1"),
		Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.40.0.2")}}
	endpoint := Endpoint{ID: endpointID, Network: networkID, Addresses: prefixes("10.40.0.3/24")}
	addresses := []string{"10.40.0.1", "10.40.0.2", "10.40.0.3", "10.40.0.4"}
	for _, tt := range []struct {
		name    string
		space   string
		network func(*Network)
		tracked []driver.Endpoint
		want    []string
	}{
		{"Docker knows three", ipam.LocalSpace, nil, nil, addresses[:3]},
		{"the driver knows the fourth", ipam.LocalSpace, nil,
			[]driver.Endpoint{{ID: "f", Network: networkID, Addresses: prefixes("10.40.0.4/24")}}, addresses},
		{"network of another driver", ipam.LocalSpace, func(n *Network) { n.Driver = "macvlan" }, nil, addresses},
		{"network of Swarm's", ipam.LocalSpace, func(n *Network) { n.Scope = "swarm" }, nil, addresses},
		{"Swarm's address space", ipam.GlobalSpace, nil, nil, addresses},
		{"no network", ipam.LocalSpace, func(n *Network) { n.Subnets = nil }, nil, nil},
		{"a network that overlaps", ipam.LocalSpace, func(n *Network) {
			n.Subnets = []Subnet{{Subnet: netip.MustParsePrefix("10.40.0.0/25")}}
		}, nil, nil},
		{"a network of a driver and an IPAM of unknown names", ipam.LocalSpace, func(n *Network) {
			n.Driver, n.IPAMDriver = "macvlan", "weave:latest"
		}, nil, addresses},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, docker, tracker, pools := newComparison(t)
			id := requestPool(t, pools, tt.space, subnetA, addresses...)
			n := localNetwork(networkID, full)
			if tt.network != nil {
				tt.network(&n)
			}
			docker.known = Known{Networks: []Network{n}, Endpoints: []Endpoint{endpoint}}
			if n.IPAMDriver == "weave:latest" {
				docker.known = Known{Others: map[driver.NetworkID][]netip.Prefix{networkID: {subnetA}}}
			}
			tracker.networks = []driver.Network{{Definition: driver.Definition{ID: "tracked"}}}
			tracker.endpoints = append(tt.tracked, driver.Endpoint{ID: endpointID, Network: "tracked"})
			compareTwice(t, c)
			got := held(pools)[id]
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("held (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEmptyPoolOfANetworkIsKept: a network of whatever driver may have no address at all.
func TestEmptyPoolOfANetworkIsKept(t *testing.T) {
	c, docker, _, pools := newComparison(t)
	first, second := requestPool(t, pools, ipam.LocalSpace, subnetA), requestPool(t, pools, ipam.LocalSpace, subnetB)
	docker.known = Known{
		Networks: []Network{localNetwork(networkID, Subnet{Subnet: subnetA})},
		Others:   map[driver.NetworkID][]netip.Prefix{"other": {subnetB}},
	}
	compareTwice(t, c)
	if diff := cmp.Diff(map[string][]string{first: {}, second: {}}, held(pools)); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
}

func TestEmptyPoolWithoutNetworkIsReleased(t *testing.T) {
	c, _, _, pools := newComparison(t)
	requestPool(t, pools, ipam.LocalSpace, subnetA)
	swarm := requestPool(t, pools, ipam.GlobalSpace, subnetB)
	compareTwice(t, c)
	if diff := cmp.Diff(map[string][]string{swarm: {}}, held(pools)); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
}

// TestWhatIsOldEnough: in a hurry less has to be waited for, and nothing for what an earlier Docker daemon has begun.
func TestWhatIsOldEnough(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, tt := range []struct {
		name  string
		since time.Time
		hurry bool
		want  ages
	}{
		{"at the usual rate", ago(time.Second), false, ages{ago(time.Minute), ago(time.Minute)}},
		{"in a hurry", time.Time{}, true, ages{ago(time.Minute), ago(30 * time.Second)}},
		{"in a hurry, an old Docker", ago(time.Hour), true, ages{ago(time.Minute), ago(30 * time.Second)}},
		{"in a hurry, a new Docker", ago(time.Second), true, ages{ago(time.Second), ago(time.Second)}},
		{"in a hurry, a Docker after the reading", now.Add(1), true, ages{ago(time.Minute), ago(30 * time.Second)}},
	} {
		c := NewComparison(ComparisonOptions{
			Networks: &fakeTracker{since: tt.since}, Timing: NewTiming(time.Minute), Log: quiet(),
		})
		if got := c.oldEnough(&reading{begun: now}, tt.hurry); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestReleasedIsLogged: a pool, or an address of one, is named in the log, and nothing that is not there.
func TestReleasedIsLogged(t *testing.T) {
	c, docker, _, pools := newComparison(t)
	log, hook := logrustest.NewNullLogger()
	c.log = logrus.NewEntry(log)
	kept := ipam.PoolID(requestPool(t, pools, ipam.LocalSpace, subnetA, "10.40.0.7"))
	gone := ipam.PoolID(requestPool(t, pools, ipam.LocalSpace, subnetB))
	docker.known.Networks = []Network{localNetwork(networkID, Subnet{Subnet: subnetA})}
	first, err := c.compare(t.Context(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	hook.Reset()
	if _, err := c.compare(t.Context(), first, false); err != nil {
		t.Fatal(err)
	}
	var got []logrus.Fields
	for _, e := range hook.AllEntries() {
		if e.Message == "released what docker has forgotten" {
			got = append(got, e.Data)
		}
	}
	want := []logrus.Fields{{"pool": kept, "address": netip.MustParseAddr("10.40.0.7")}, {"pool": gone}}
	slices.SortFunc(got, func(a, b logrus.Fields) int { return len(b) - len(a) })
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
