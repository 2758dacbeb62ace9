// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// fakeTracker tracks endpoints of one network.
type fakeTracker struct {
	mu        sync.Mutex
	network   driver.Network
	endpoints []driver.Endpoint
}

func (f *fakeTracker) Endpoints() []driver.Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.endpoints)
}

func (f *fakeTracker) ByHostEnd(name string) (driver.Network, driver.Endpoint, bool) {
	for _, ep := range f.Endpoints() {
		if ep.HostEnd == name {
			return f.network, ep, true
		}
	}
	return driver.Network{}, driver.Endpoint{}, false
}

// change changes the endpoint with that host end.
func (f *fakeTracker) change(hostEnd string, change func(*driver.Endpoint)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.endpoints {
		if f.endpoints[i].HostEnd == hostEnd {
			change(&f.endpoints[i])
		}
	}
}

// watched is a rig whose Watcher runs.
type watched struct {
	*rig
	tracker *fakeTracker
	changes chan Change
}

// watch has a Watcher run on the rig until the test ends. The endpoint is up, and its way out is its gateway.
func watch(t *testing.T, r *rig) watched {
	t.Helper()
	r.endpoint.Carrier, r.endpoint.External = true, true
	r.endpoint.Gateways = []netip.Addr{netip.MustParseAddr("10.40.0.1")}
	w := watched{r, &fakeTracker{network: r.network, endpoints: []driver.Endpoint{r.endpoint}}, make(chan Change, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	watcher := NewWatcher(r.Inspector, w.tracker, func(c Change) { w.changes <- c })
	go func() {
		watcher.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if p := watcher.Problem(); p != nil {
			t.Error(p)
		}
	})
	return w
}

// inContainer runs commands in the sandbox.
func (w watched) inContainer(commands ...string) {
	w.t.Helper()
	w.inSandbox(func() error { return nstest.Run(commands...) })
}

// await waits for a change whose description begins so, and returns those that came before it.
func (w watched) await(want string) (before []string) {
	w.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case c := <-w.changes:
			got := describe(c)
			if strings.HasPrefix(got, want) {
				return before
			}
			before = append(before, got)
		case <-timeout:
			w.t.Fatalf("heard %q, want %q", before, want)
		}
	}
}

// describe returns a change in a line: "-" if the drift is over, the endpoint's host end, the drift, and the message.
func describe(c Change) string {
	text := fmt.Sprintf("%s: %s: %s", c.Endpoint.HostEnd, c.Drift.Kind, c.Drift.Text)
	if c.Over {
		text = "-" + text
	}
	if c.Cause != nil {
		text += ", " + c.Cause.Call
	}
	return text
}

// TestWatcher changes a container's link, addresses and routes in each way that is drift, and puts them right again.
func TestWatcher(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRigOn(t, nstest.Here(t), nstest.Nsproc(t))
	r.inSandbox(func() error { return nstest.Run("ip route add default via 10.40.0.1") })
	w := watch(t, r)
	w.inContainer("ip addr add 10.40.0.7/16 dev eth0")
	w.await("wve-test: address-unexpected: unexpected address 10.40.0.7/16, RTM_NEWADDR")
	w.inContainer("ip addr del 10.40.0.7/16 dev eth0")
	w.await("-wve-test: address-unexpected: unexpected address 10.40.0.7/16, RTM_DELADDR")

	w.inContainer("ip addr del fd00:40::2/64 dev eth0")
	w.await("wve-test: address-missing: address fd00:40::2/64 missing, RTM_DELADDR")
	w.inContainer("ip addr add fd00:40::2/64 dev eth0")
	w.await("-wve-test: address-missing: address fd00:40::2/64 missing, RTM_NEWADDR")

	w.inContainer("ip link set eth0 address 02:00:00:00:00:99")
	w.await(fmt.Sprintf("wve-test: mac-changed: MAC 02:00:00:00:00:99, not %s, RTM_NEWLINK", r.endpoint.MAC))
	w.inContainer("ip link set eth0 address " + r.endpoint.MAC.String())
	w.await(fmt.Sprintf("-wve-test: mac-changed: MAC 02:00:00:00:00:99, not %s, RTM_NEWLINK", r.endpoint.MAC))

	const noRoute = "wve-test: route-missing: default route missing, by 10.40.0.1 or any other, "
	w.inContainer("ip route del default")
	w.await(noRoute + "RTM_DELROUTE")
	w.inContainer("ip route add default via 10.40.0.1")
	w.await("-" + noRoute + "RTM_NEWROUTE")
	w.inContainer("ip route add default via 10.40.0.9 metric 7", "ip route del default via 10.40.0.1")
	w.inContainer("ip addr add 10.40.0.7/16 dev eth0")
	if before := w.await("wve-test: address-unexpected: unexpected address 10.40.0.7/16, RTM_NEWADDR"); before != nil {
		t.Errorf("another default route, perhaps Docker's, is told as %q", before)
	}

	w.inContainer("ip link set eth0 down") // which takes the routes along, without an event
	w.await("wve-test: container-end-down: eth0 down in the container, RTM_NEWLINK")
	w.await(noRoute + "RTM_NEWLINK")
	w.inContainer("ip link set eth0 up")
	w.await("-wve-test: container-end-down: eth0 down in the container, RTM_NEWLINK")

	elsewhere := nstest.New(t)
	w.inSandbox(func() error {
		return with("eth0", func(l netlink.Link) error { return netlink.LinkSetNsFd(l, elsewhere.FD()) })
	})
	w.await("wve-test: container-end-missing: container end missing in the container, RTM_") // whichever is heard first
}

// TestWatcherLeavesOut: nothing is told of an endpoint that has left, of one that Docker is setting up, and of links
// that are no endpoint's.
func TestWatcherLeavesOut(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRigOn(t, nstest.Here(t), nstest.Nsproc(t))
	w := watch(t, r)
	w.inContainer("ip addr add 10.40.0.9/16 dev eth0")
	w.await("wve-test: address-unexpected: unexpected address 10.40.0.9/16, RTM_NEWADDR")
	w.inContainer("ip addr del 10.40.0.9/16 dev eth0")
	w.await("-wve-test: address-unexpected: unexpected address 10.40.0.9/16, RTM_DELADDR")

	w.tracker.change("wve-test", func(ep *driver.Endpoint) { ep.Sandbox = "" })
	w.inContainer("ip addr del 10.40.0.2/16 dev eth0", "ip link set eth0 name eth9")
	second := r.attach("eeee20000000", "wve-second", "10.40.0.3/16") // as Docker: it comes up after it has its address
	other := nstest.New(t)
	nstest.Veth(t, r.host, other, "veth1234", "10.40.0.8/16")
	other.Do(t, func() error { return nstest.Run("ip addr del 10.40.0.8/16 dev eth0") })
	second.Carrier = true
	w.tracker.mu.Lock()
	w.tracker.endpoints = append(w.tracker.endpoints, second)
	w.tracker.mu.Unlock()
	w.inContainer("ip addr del 10.40.0.3/16 dev eth0")
	before := w.await("wve-second: address-missing: address 10.40.0.3/16 missing, RTM_DELADDR")
	if before != nil {
		t.Errorf("told: %q", before)
	}
}

// TestWatcherAtStart: what has drifted before the Watcher listens is told, without a cause.
func TestWatcherAtStart(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRigOn(t, nstest.Here(t), nstest.Nsproc(t))
	r.inSandbox(func() error { return nstest.Run("ip addr del 10.40.0.2/16 dev eth0") })
	watch(t, r).await("wve-test: address-missing: address 10.40.0.2/16 missing")
}

// TestRoutesFallWithTheLink: a default route that goes with its link, of which the kernel tells nothing, is missed.
func TestRoutesFallWithTheLink(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRigOn(t, nstest.Here(t), nstest.Nsproc(t))
	r.endpoint.Addresses = r.endpoint.Addresses[:1]
	r.inSandbox(func() error { // IPv6 addresses would go, too, of which it tells
		return nstest.Run("ip -6 addr flush dev eth0", "ip route add default via 10.40.0.1")
	})
	w := watch(t, r)
	w.inContainer("ip link set eth0 down", "ip link set eth0 up")
	w.await("wve-test: route-missing: default route missing, by 10.40.0.1 or any other")
}

// TestLooksAreSpaced: events that come all the time lead to a few looks in a second.
func TestLooksAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, e := Watcher{due: map[*end]bool{}}, &end{wasUp: true}
		looks := 0
		for end := time.Now().Add(10 * roundTime); time.Now().Before(end); looks++ {
			w.note(e, rtnl.Event{})
			w.note(e, rtnl.Event{})
			time.Sleep(time.Until(e.due))
			delete(w.due, e)
		}
		if most := 10 * (roundLooks + 1); looks > most || looks < most/2 {
			t.Errorf("%d looks in 10 s, want at most %d", looks, most)
		}
	})
}

// TestBusyContainer: what is so in the end is told of a container that changes its addresses all the time.
func TestBusyContainer(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRigOn(t, nstest.Here(t), nstest.Nsproc(t))
	w := watch(t, r)
	for range 100 {
		w.inContainer("ip addr add 10.40.0.9/16 dev eth0", "ip addr del 10.40.0.9/16 dev eth0")
	}
	w.inContainer("ip addr del 10.40.0.2/16 dev eth0")
	w.await("wve-test: address-missing: address 10.40.0.2/16 missing, RTM_DELADDR")
}

// TestWatcherHasNoCapability runs in a process of its own, which has given up what it takes to listen.
func TestWatcherHasNoCapability(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRigOn(t, nstest.Here(t), nstest.Nsproc(t))
	set := cap.GetProc()
	if err := errors.Join(set.SetFlag(cap.Effective, false, cap.NET_BROADCAST), set.SetProc()); err != nil {
		t.Fatal(err)
	}
	w := NewWatcher(r.Inspector, &fakeTracker{}, func(Change) {})
	w.Run(t.Context()) // gives up
	if p := w.Problem(); len(p) != 1 {
		t.Errorf("problems %q, want one", p)
	}
}
