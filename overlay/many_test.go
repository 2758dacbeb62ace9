// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// A network with many endpoints is programmed, changed and repaired. WEAVE_ENDPOINTS says how many; the log says how
// long it takes.
func TestManyEndpoints(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	count := 5000
	if s := os.Getenv("WEAVE_ENDPOINTS"); s != "" {
		var err error
		if count, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	u := newUnderlay(t, false)
	here := u.newHost(1, nil, ipv6On...)
	n := here.network()
	for i := range count {
		a, b, c := byte(i>>16), byte(i>>8), byte(i)
		n.Remotes = append(n.Remotes, Remote{
			MAC: mac.Address{2, 1, 0, a, b, c}, VTEP: netip.AddrFrom4([4]byte{192, 0, 3, byte(i % 250)}),
			Addresses: []netip.Addr{
				netip.AddrFrom4([4]byte{11, a, b, c}), netip.AddrFrom16([16]byte{0xfd, 13: a, 14: b, 15: c}),
			},
		})
	}
	o := here.overlay()
	timed := func(what string, f func()) {
		start := time.Now()
		f()
		t.Logf("%s: %v", what, time.Since(start))
	}
	check := func() {
		t.Helper()
		own, _ := here.rows()
		if want := Desired(n.Local, n.Remotes); len(own) != len(want) {
			t.Errorf("%d entries, want %d", len(own), len(want))
		}
	}
	timed("all programmed", func() { o.Set("app", n); await(t, o) })
	check()
	timed("compared", func() { o.Resync(); await(t, o) })
	n.Remotes = n.Remotes[1:]
	timed("one goes", func() { o.Set("app", n); await(t, o) })
	check()
	timed("one is put back", func() {
		if err := nstest.Run("bridge fdb del 02:01:00:00:00:02 dev wvx-app master"); err != nil {
			t.Fatal(err)
		}
		within(t, repairTime, "put back", func() bool {
			return nstest.Run("bridge fdb get 02:01:00:00:00:02 dev wvx-app master") == nil
		})
	})
	n.Remotes = nil
	timed("all go", func() { o.Remove("app"); await(t, o) })
	check()
}
