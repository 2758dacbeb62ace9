// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// repairTime is how long a repair may take here; it takes some 10 ms on an idle machine.
const repairTime = 5 * time.Second

func isProgrammed(h *host, others ...*host) bool {
	own, _ := h.rows()
	return cmp.Equal(Desired(h.vtep, h.network(others...).Remotes), own, compareAddresses)
}

// twoHosts returns this host, another one with a container on the network, and the overlay here, which is programmed.
func twoHosts(t *testing.T) (here, there *host, o *Overlay) {
	t.Helper()
	u := newUnderlay(t, false)
	here, there = u.newHost(1, nil, ipv6On...), u.newHost(2, nstest.New(t), ipv6On...)
	there.start(12)
	o = here.overlay()
	here.set(o, there)
	return here, there, o
}

// Entries that somebody removes are put back, whatever way they go.
func TestRemovedEntryComesBack(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	here, there, o := twoHosts(t)
	if own, _ := here.rows(); len(own) != 5 {
		t.Fatalf("entries: %v", own)
	}
	for _, tt := range []struct{ how, command string }{
		{"tunnel", "bridge fdb del 02:00:00:00:00:0c dev wvx-app dst 192.0.2.2 self"},
		{"flood", "bridge fdb del 00:00:00:00:00:00 dev wvx-app dst 192.0.2.2 self"},
		{"port", "bridge fdb del 02:00:00:00:00:0c dev wvx-app master"},
		{"neighbour", "ip neigh del 10.40.0.12 dev wv-app"},
		{"IPv6 neighbour", "ip neigh del fd00:40::c dev wv-app"},
		{"all neighbours, by the kernel", "ip link set wv-app address 02:00:00:00:00:77"},
		{"all at the device, by the kernel", "ip link set wvx-app nomaster"},
	} {
		t.Run(tt.how, func(t *testing.T) {
			if err := nstest.Run(tt.command); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if strings.HasSuffix(tt.command, "nomaster") {
				within(t, repairTime, "a problem", func() bool {
					return strings.Contains(strings.Join(o.Problems(), ""), "is no port of bridge wv-app")
				})
				if err := nstest.Run("ip link set wvx-app master wv-app"); err != nil {
					t.Fatal(err)
				}
				within(t, repairTime, "no problem", func() bool { return len(o.Problems()) == 0 })
			}
			within(t, repairTime, "put back", func() bool { return isProgrammed(here, there) })
			t.Logf("put back after %v", time.Since(start))
		})
	}
}

// A device that is made anew is programmed as soon as it is a port of the bridge.
func TestNewDeviceIsProgrammed(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	here, there, o := twoHosts(t)
	if err := nstest.Run("ip link del wvx-app"); err != nil {
		t.Fatal(err)
	}
	within(t, repairTime, "a problem", func() bool { return len(o.Problems()) == 1 })
	if err := here.device().Add(); err != nil {
		t.Fatal(err)
	}
	if err := nstest.Run("ip link set wvx-app master wv-app up"); err != nil {
		t.Fatal(err)
	}
	await(t, o)
	if !isProgrammed(here, there) {
		own, _ := here.rows()
		t.Errorf("entries: %v", own)
	}
}

// Somebody else's entries stay, also where they are in the way of weave's.
func TestForeignEntriesStay(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	here, there, o := twoHosts(t)
	foreign := []Entry{
		{Table: Tunnel, MAC: mac.MustParse("02:00:00:00:00:99"), Address: netip.MustParseAddr("192.0.2.9")},
		{Table: Neighbour, MAC: mac.MustParse("02:00:00:00:00:99"), Address: netip.MustParseAddr("10.40.0.99")},
		{Table: Flood, Address: netip.MustParseAddr("192.0.2.9")},
		{Table: Port, MAC: mac.MustParse("02:00:00:00:00:99")},
	}
	err := nstest.Run(
		"bridge fdb add 02:00:00:00:00:99 dev wvx-app dst 192.0.2.9 self permanent",
		"bridge fdb add 02:00:00:00:00:99 dev wvx-app master static",
		"bridge fdb append 00:00:00:00:00:00 dev wvx-app dst 192.0.2.9 self permanent",
		"ip neigh add 10.40.0.99 lladdr 02:00:00:00:00:99 dev wv-app nud permanent",
		"ip neigh add 10.40.0.13 lladdr 02:00:00:00:00:99 dev wv-app nud permanent",
	)
	if err != nil {
		t.Fatal(err)
	}
	there.start(13)
	o.Set("app", here.network(there))
	within(t, repairTime, "a problem", func() bool {
		return strings.Contains(strings.Join(o.Problems(), ""), "address 10.40.0.13 at MAC 02:00:00:00:00:0d")
	})
	if err := nstest.Run("ip neigh del 10.40.0.13 dev wv-app"); err != nil {
		t.Fatal(err)
	}
	o.Resync()
	await(t, o)
	o.Set("app", here.network()) // nobody is left
	await(t, o)
	own, have := here.rows()
	if len(own) > 0 {
		t.Errorf("left: %v", own)
	}
	for _, e := range foreign {
		if have[e.key()] != e {
			t.Errorf("%v is gone; there are %v", e, have)
		}
	}
	if got, want := floods(t, here), 1; got != want {
		t.Errorf("%d flood entries, want %d", got, want)
	}
	o.Remove("app")
	await(t, o)
}

func floods(t *testing.T, h *host) (n int) {
	t.Helper()
	_, foreign := h.rows()
	for e := range foreign {
		if e.Table == Flood {
			n++
		}
	}
	return n
}

// What the bridge has learned of a MAC that the cluster knows on another host does not hold. A container that moved
// here, on the other hand, is learned as soon as the cluster says so.
func TestLearnedEntriesGiveWay(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	here, there, o := twoHosts(t)
	moved := here.start(12) // sends at once, for IPv6
	other := here.start(11)
	learn := func() {
		moved.Do(t, func() error { return nstest.Run("ip neigh flush dev eth0") })
		_ = traffic(t, 50*time.Millisecond, moved, other, 0)
	}
	learn()
	within(t, repairTime, "the cluster's view", func() bool { return isProgrammed(here, there) })
	here.set(o)
	passes(t, moved, other, 0)
}

// What the kernel refuses is told, and tried again.
func TestRefusedEntriesAreTriedAgain(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	u := newUnderlay(t, false)
	here, there := u.newHost(1, nil, hostApart...), u.newHost(2, nstest.New(t), hostApart...)
	there.start(12)
	o := here.overlay()
	o.Set("app", here.network(there))
	within(t, repairTime, "a problem", func() bool {
		return strings.Contains(strings.Join(o.Problems(), ""), "disable_ipv6")
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Await(ctx, "app"); err == nil || !strings.Contains(err.Error(), "disable_ipv6") {
		t.Errorf("Await: %v", err)
	}
	if err := nstest.Run("sysctl -qw net.ipv6.conf.wv-app.disable_ipv6=0"); err != nil {
		t.Fatal(err)
	}
	await(t, o)
	if problems := o.Problems(); len(problems) > 0 || !isProgrammed(here, there) {
		t.Errorf("problems %v", problems)
	}
}

// within polls until ok reports true.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
}
