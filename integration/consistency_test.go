// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

const (
	// clusterCycles is the environment variable with the number of cycles, in a run that has the machine for itself.
	clusterCycles = "WEAVE_CLUSTER_CYCLES"
	fewCycles     = 60
	// faultyCycles is how many cycles there are for one with a fault, on average.
	faultyCycles = 20
	// reachTime is within which endpoints reach each other. Beside other tests it takes longer.
	reachTime       = time.Second
	reachTimeBeside = 4 * reachTime
	// checkCycles is how many cycles there are between two looks of the oracle.
	checkCycles = 50
)

// TestEndpointsComeAndGo: endpoints come and go on two hosts, which share the addresses of one small pool. In each
// cycle both hosts make or remove one at once, and a second after the calls have returned every endpoint reaches every
// other one.
//
// In some cycles the watches of etcd fail meanwhile. What is told through etcd can be promised only when it works
// again: the second begins when etcd has the endpoints of both hosts, and both hosts have seen what was written to etcd
// after that.
func TestEndpointsComeAndGo(t *testing.T) {
	t.Parallel()
	cycles, within := number(t, clusterCycles, fewCycles), reachTimeBeside
	if os.Getenv(clusterCycles) != "" {
		within = reachTime
	}
	c := startBareHosts(t, 2, netip.MustParsePrefix("10.73.0.0/28"))
	r := &comingAndGoing{bareHosts: c, t: t, random: c.network.Random("cycles"), within: within,
		slowest: map[bool]time.Duration{}}
	for i := range cycles {
		if i%steadyCycles == 0 {
			r.aim()
		}
		r.cycle()
		if i%checkCycles == checkCycles-1 {
			c.check(t, fmt.Sprintf("after cycle %d", i))
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%d cycles, %d with a fault, %d requests refused; all reached all within %v, after a fault within %v",
		cycles, r.faults, r.refused, r.slowest[false].Round(time.Millisecond), r.slowest[true].Round(time.Millisecond))
	c.check(t, "with the last endpoints")
	for _, h := range c.bare {
		for len(h.endpoints) > 0 {
			if err := h.remove(0); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const (
	mostEndpoints = 11 // so that both hosts can make one more
	mostChanges   = 4  // of a host while there is a fault
	steadyCycles  = 8  // cycles until a host is to have another number of endpoints
)

type comingAndGoing struct {
	*bareHosts
	t       *testing.T
	random  *rand.Rand
	within  time.Duration
	aims    [2]int // endpoints that a host is to have
	marks   int
	faults  int
	refused int
	slowest map[bool]time.Duration // by whether there was a fault
}

// aim chooses how many endpoints each host is to have, up to all of the pool: so addresses move between the hosts.
func (r *comingAndGoing) aim() {
	all := 2 + r.random.IntN(mostEndpoints-1)
	r.aims[0] = r.random.IntN(all + 1)
	r.aims[1] = all - r.aims[0]
}

// cycle makes or removes an endpoint on each host; with a fault several ones, of which the other host hears together.
func (r *comingAndGoing) cycle() {
	r.t.Helper()
	if r.random.IntN(faultyCycles) > 0 {
		r.reach(false, r.change(false))
		return
	}
	r.faults++
	cut := r.fail()
	for range 1 + r.random.IntN(mostChanges) {
		r.change(true)
	}
	if r.random.IntN(2) == 0 {
		r.awaitNotice(cut)
	}
	r.network.Heal()
	r.awaitWatches()
	r.reach(true, time.Now())
}

// change makes or removes an endpoint on each host, at once, and returns when the calls had returned. An address for
// which etcd has to be asked may be refused if there is a fault.
func (r *comingAndGoing) change(faulty bool) time.Time {
	r.t.Helper()
	var working sync.WaitGroup
	var errs [2]error
	for i, h := range r.bare {
		n := len(h.endpoints)
		grows, which := n < r.aims[i], r.random.IntN(max(n, 1))
		working.Go(func() {
			if grows {
				errs[i] = h.add()
			} else if n > 0 {
				errs[i] = h.remove(which)
			}
		})
	}
	working.Wait()
	returned := time.Now()
	for _, err := range errs {
		if faulty && errors.Is(err, lab.ErrRefused) {
			r.refused++
		} else if err != nil {
			r.t.Fatal(err)
		}
	}
	return returned
}

// fail begins a fault between etcd and hosts, and returns those that are cut off from it.
func (r *comingAndGoing) fail() []*bareHost {
	i := r.random.IntN(len(r.bare))
	one := r.bare[i : i+1]
	switch r.random.IntN(5) {
	case 0:
		r.network.Between(lab.Outside, lab.Any, lab.Faults{Drop: 0.1, Duplicate: 0.1, Reorder: 0.2})
		return nil
	case 1:
		r.network.Between(lab.Outside, one[0].Name(), lab.Faults{Delay: 100 * time.Millisecond})
		return nil
	case 2:
		r.network.Between(lab.Outside, lab.Any, lab.Cut)
		return r.bare
	}
	r.network.Between(lab.Outside, one[0].Name(), lab.Cut)
	return one
}

// awaitNotice waits until hosts that are cut off from etcd know it. Their leases run out then, or soon: for the others
// they are gone, with their endpoints.
func (r *comingAndGoing) awaitNotice(cut []*bareHost) {
	r.t.Helper()
	for _, h := range cut {
		lab.Eventually(r.t, 20*time.Second, h.Name()+" knows that it is cut off", func() error {
			c, err := api.NewClient(h.Path(lab.APISocket)).Cluster(context.Background())
			if err == nil && c.Error == "" {
				err = fmt.Errorf("it has last heard of etcd at %s", c.LastContact)
			}
			return err
		})
	}
}

// reach has every endpoint ping every other one until each has had an answer.
func (r *comingAndGoing) reach(faulty bool, begun time.Time) {
	r.t.Helper()
	type pair struct{ from, to *bareEndpoint }
	var missing []pair
	for _, a := range r.bare {
		for _, b := range r.bare {
			for _, from := range a.endpoints {
				for _, to := range b.endpoints {
					if from != to {
						missing = append(missing, pair{from, to})
					}
				}
			}
		}
	}
	for len(missing) > 0 {
		var still []pair
		for _, p := range missing {
			if err := p.from.ping(p.to, 10*time.Millisecond); err != nil {
				still = append(still, p)
			}
		}
		missing = still
		if len(missing) > 0 && time.Since(begun) > r.within {
			for _, p := range missing {
				r.t.Errorf("%s on %s does not reach %s on %s within %v (after a fault: %v)", p.from.address,
					p.from.host.Name(), p.to.address, p.to.host.Name(), r.within, faulty)
			}
			return
		}
	}
	r.slowest[faulty] = max(r.slowest[faulty], time.Since(begun))
}

// The records of a host that is in etcd only. Each of the hosts lists its endpoint.
const (
	markHost     = "weave/hosts/mark"
	markEndpoint = "weave/endpoints/app/mark/mark"
)

// mark writes to etcd what both hosts will list when their watches have come to it, and returns the name to look for.
func (r *comingAndGoing) mark() string {
	r.t.Helper()
	r.marks++
	name := fmt.Sprintf("mark-%d", r.marks)
	err := errors.Join(
		r.etcd.Put(markHost, fmt.Sprintf(`{"name":"mark","vtep":"%s"}`, outside.Addr())),
		r.etcd.Put(markEndpoint, fmt.Sprintf(`{"mac":"02:00:00:00:00:01","addresses":[],"container":"%s"}`, name)))
	if err != nil {
		r.t.Fatal(err)
	}
	return name
}

func (r *comingAndGoing) unmark() {
	r.t.Helper()
	if err := errors.Join(r.etcd.Delete(markHost), r.etcd.Delete(markEndpoint)); err != nil {
		r.t.Fatal(err)
	}
}

// awaitWatches waits until etcd has the endpoints of all hosts, and then until each host's watch has come so far.
func (r *comingAndGoing) awaitWatches() {
	r.t.Helper()
	lab.Eventually(r.t, 20*time.Second, "etcd has what the hosts have", func() error {
		records, err := r.etcd.All("weave/")
		if err != nil {
			return err
		}
		view, err := viewOf(records, "weave/")
		if err != nil {
			return err
		}
		found := map[string][]string{} // endpoints by host
		for id, endpoints := range view.Endpoints[bareNetwork] {
			found[view.Hosts[id].Name] = slices.Sorted(maps.Keys(byID(endpoints)))
		}
		for _, h := range r.bare {
			if diff := cmp.Diff(h.endpointIDs(), found[h.Name()]); diff != "" {
				return fmt.Errorf("%s (-want +in etcd):\n%s", h.Name(), diff)
			}
		}
		return nil
	})
	name := r.mark()
	defer r.unmark()
	for _, h := range r.bare {
		lab.Eventually(r.t, 20*time.Second, h.Name()+" lists "+name, func() error {
			listed, err := api.NewClient(h.Path(lab.APISocket)).Endpoints(context.Background(), api.Query{})
			for _, e := range listed {
				if e.ContainerName == name {
					return err
				}
			}
			return errors.Join(err, errors.New("it is not listed"))
		})
	}
}
