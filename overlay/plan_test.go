// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
)

func TestPlan(t *testing.T) {
	one, two := mac.MustParse("02:00:00:00:00:01"), mac.MustParse("02:00:00:00:00:02")
	vtep2, vtep3 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	address := netip.MustParseAddr("10.40.0.1")
	flood2, flood3 := Entry{Table: Flood, Address: vtep2}, Entry{Table: Flood, Address: vtep3}
	tunnel2, tunnel3 := Entry{Tunnel, one, vtep2}, Entry{Tunnel, one, vtep3}
	port := Entry{Table: Port, MAC: one}
	neighbour, other := Entry{Neighbour, one, address}, Entry{Neighbour, two, address}
	const inTheWay = ": somebody else's entry is in the way"
	ours := func(e Entry) row { return row{Entry: e, marked: true, fixed: true, usable: true} }
	foreign := func(e Entry) row { return row{Entry: e, fixed: true, usable: true} }
	add := func(e Entry) change { return change{Entry: e} }
	remove := func(e Entry) change { return change{Entry: e, remove: true} }
	for name, tt := range map[string]struct {
		want      []Entry
		before    []Entry // what was weave's
		first     bool    // that is not known
		have      []row
		changes   []change
		conflicts []string
	}{
		"all is new": {
			want:    []Entry{neighbour, port, tunnel2, flood2},
			changes: []change{add(flood2), add(tunnel2), add(port), add(neighbour)},
		},
		"all is there": {
			want: []Entry{neighbour, port, tunnel2, flood2},
			have: []row{ours(neighbour), ours(port), ours(tunnel2), ours(flood2)},
		},
		"all goes": {
			have:    []row{ours(flood2), ours(tunnel2), ours(port), ours(neighbour)},
			changes: []change{remove(neighbour), remove(port), remove(tunnel2), remove(flood2)},
		},
		"an endpoint moves": {
			want:    []Entry{flood3, tunnel3, port, neighbour},
			have:    []row{ours(flood2), ours(tunnel2), ours(port), ours(neighbour)},
			changes: []change{add(flood3), add(tunnel3), remove(flood2)},
		},
		"an address gets another MAC": {
			want: []Entry{other}, have: []row{ours(neighbour)}, changes: []change{add(other)},
		},
		"somebody else's entries": {
			have: []row{foreign(flood2), foreign(tunnel2), foreign(port), foreign(neighbour)},
		},
		"somebody else's are in the way": {
			want:      []Entry{tunnel3, other},
			have:      []row{foreign(tunnel2), foreign(neighbour)},
			conflicts: []string{tunnel3.String() + inTheWay, other.String() + inTheWay},
		},
		"somebody else's say the same": {want: []Entry{tunnel2, port}, have: []row{foreign(tunnel2), foreign(port)}},
		"somebody else's at another port": {
			want:      []Entry{port},
			have:      []row{{Entry: port, fixed: true}},
			conflicts: []string{port.String() + inTheWay},
		},
		"learned ones": {
			want:    []Entry{port, other},
			have:    []row{{Entry: port}, {Entry: neighbour}},
			changes: []change{add(port), add(other)},
		},
		"flood entries without their mark": {
			want: []Entry{flood3}, before: []Entry{flood2}, have: []row{foreign(flood2), foreign(flood3)},
			changes: []change{remove(flood2)},
		},
		"flood entries without their mark after a start": {
			want: []Entry{flood3}, first: true, have: []row{foreign(flood2), foreign(flood3)},
			changes: []change{remove(flood2)},
		},
		"others' entries after a start": {
			first: true, have: []row{foreign(tunnel2), foreign(port), foreign(neighbour)},
		},
	} {
		want, before := set(tt.want), set(tt.before)
		if tt.first {
			before = nil
		}
		changes, conflicts := plan(want, sortOut(tt.have, want, before))
		unexported := cmp.AllowUnexported(change{})
		if diff := cmp.Diff(tt.changes, changes, compareAddresses, unexported, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: changes (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tt.conflicts, conflicts); diff != "" {
			t.Errorf("%s: conflicts (-want +got):\n%s", name, diff)
		}
	}
}

func set(entries []Entry) Entries {
	out := Entries{}
	for _, e := range entries {
		out.add(e)
	}
	return out
}

// What is entered is read again as the same, and nothing that comes makes the decoder fail.
func FuzzDecodeRow(f *testing.F) {
	l := links{device: 7, bridge: 8}
	for _, e := range []Entry{
		{Tunnel, mac.Address{2}, netip.MustParseAddr("192.0.2.1")},
		{Table: Port, MAC: mac.Address{2}},
		{Neighbour, mac.Address{2}, netip.MustParseAddr("fd00::1")},
		{Table: Flood, Address: netip.MustParseAddr("fd00::1")},
	} {
		b := change{Entry: e}.append(nil, l, 0, 1)[unix.SizeofNlMsghdr:]
		if e.Table == Port { // the kernel tells it so
			b[10] &^= unix.NTF_MASTER
			b = appendAttribute(b, unix.NDA_MASTER, native.AppendUint32(nil, uint32(l.bridge)))
		}
		r, ok := decodeRow(b, l)
		if want := (row{Entry: e, marked: true, fixed: true, usable: true}); !ok || r != want {
			f.Errorf("got %+v, %v, want %+v", r, ok, want)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := decodeRow(b, l)
		if ok && r.Address.Is4In6() {
			t.Errorf("%+v", r)
		}
		for range messages(b) {
		}
	})
}
