// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// TestManyNetworks: more networks than are compared in one round have each their own rows in the end, whatever somebody
// has left in the kernel or taken from it before weave was there. The log says how long it takes.
func TestManyNetworks(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	const networks, endpoints = mostCompared + 20, 20
	newUnderlay(t, false).newHost(1, nil)
	wanted := map[string]Network{}
	for i := range networks {
		n := Network{
			Device: fmt.Sprintf("wvx-%d", i), Bridge: fmt.Sprintf("wv-%d", i), Local: netip.MustParseAddr("192.0.2.1"),
		}
		d := Device{Name: n.Device, VNI: uint32(100 + i), Port: udpPort, Local: n.Local, MTU: 1450}
		if err := nstest.Run("ip link add "+n.Bridge+" type bridge", "ip link set "+n.Bridge+" up"); err != nil {
			t.Fatal(err)
		}
		if err := d.Add(); err != nil {
			t.Fatal(err)
		}
		if err := nstest.Run("ip link set " + n.Device + " master " + n.Bridge + " up"); err != nil {
			t.Fatal(err)
		}
		for k := range endpoints { // the same addresses on all of them
			n.Remotes = append(n.Remotes, Remote{
				MAC: mac.Address{2, 0, 0, 0, byte(i), byte(k)}, VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + k)}),
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 40, 0, byte(10 + k)})},
			})
		}
		wanted[n.Device] = n
	}
	// begin returns a new Overlay that has begun with what is in the kernel, and what ends it.
	begin := func() (o *Overlay, end func()) {
		log := logrus.New()
		log.SetOutput(t.Output())
		o = New(logrus.NewEntry(log))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		for key, n := range wanted {
			o.Set(key, n)
		}
		return o, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	check := func(what string, o *Overlay) {
		t.Helper()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for key := range wanted {
			if err := o.Await(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s: %v", what, time.Since(start))
		for key, n := range wanted {
			if diff := cmp.Diff(Desired(n.Local, n.Remotes), ownRows(t, n), compareAddresses); diff != "" {
				t.Fatalf("%s: rows of %s (-want +got):\n%s", what, key, diff)
			}
		}
	}
	o, end := begin()
	check("all programmed", o)
	o.Resync()
	check("compared", o)
	end()
	left := wanted["wvx-1"]
	left.Remotes = left.Remotes[1:]
	wanted["wvx-1"] = left
	err := nstest.Run("ip neigh del 10.40.0.15 dev wv-0", "bridge fdb del 02:00:00:00:02:05 dev wvx-2 master")
	if err != nil {
		t.Fatal(err)
	}
	o, end = begin()
	check("begun again", o)
	end()
	o.Resync()
	<-o.kick
	if tasks := (&programmer{o: o}).take(); len(tasks) != mostCompared {
		t.Errorf("%d networks are compared in one round, want %d", len(tasks), mostCompared)
	}
	select {
	case <-o.kick:
	default:
		t.Error("no round follows for the others")
	}
}

// ownRows returns weave's entries of a network.
func ownRows(t *testing.T, n Network) Entries {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	l, err := (&network{device: n.Device, bridge: n.Bridge}).find()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := allRows(t.Context(), c, l)
	if err != nil {
		t.Fatal(err)
	}
	return sortOut(rows, nil, nil).own
}
