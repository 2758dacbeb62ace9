// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestFatesFollowFromTheSeed: with a seed the frames of a line have the same fates each time, as often as is asked for.
func TestFatesFollowFromTheSeed(t *testing.T) {
	const frames = 10000
	fates := func(seed uint64, from, to string) (out [][]time.Duration, l *line) {
		l = newLine(seed, way{from, to})
		l.faults = Faults{Drop: 0.1, Duplicate: 0.2, Reorder: 0.3}
		for range frames {
			out = append(out, l.fate())
		}
		return out, l
	}
	same := func(a, b [][]time.Duration) bool { return slices.EqualFunc(a, b, slices.Equal[[]time.Duration]) }
	first, l := fates(7, "a", "b")
	if again, _ := fates(7, "a", "b"); !same(first, again) {
		t.Error("the same seed gives other fates")
	}
	for _, w := range []way{{"b", "a"}, {"a", "c"}} {
		if other, _ := fates(7, w.from, w.to); same(first, other) {
			t.Errorf("the line from %s to %s has the fates of that from a to b", w.from, w.to)
		}
	}
	if other, _ := fates(8, "a", "b"); same(first, other) {
		t.Error("another seed gives the same fates")
	}
	arrived := frames - l.lost
	for _, c := range []struct {
		what     string
		got, of  int
		atLeast  float64
		lessThan float64
	}{
		{"lost", l.lost, frames, 0.08, 0.12},
		{"doubled", l.doubled, arrived, 0.18, 0.22},
		{"late", l.late, arrived, 0.28, 0.32},
	} {
		if share := float64(c.got) / float64(c.of); share < c.atLeast || share >= c.lessThan {
			t.Errorf("%s: a share of %.3f, want %.2f to %.2f", c.what, share, c.atLeast, c.lessThan)
		}
	}
}

// TestCapture: the file has the last frames, in order, with the beginning of each.
func TestCapture(t *testing.T) {
	var c capture
	const more = 10
	long := make([]byte, capturedBytes+100)
	for i := range capturedFrames + more {
		c.add(fmt.Appendf(nil, "frame %d", i))
	}
	c.add(long)
	b := c.pcap()
	e := binary.LittleEndian
	if magic, link := e.Uint32(b), e.Uint32(b[20:]); magic != 0xa1b2c3d4 || link != 1 {
		t.Errorf("magic number %#x, link type %d", magic, link)
	}
	b = b[24:]
	for i := range capturedFrames {
		kept, length := int(e.Uint32(b[8:])), int(e.Uint32(b[12:]))
		frame := string(b[16 : 16+kept])
		b = b[16+kept:]
		switch {
		case i < capturedFrames-1:
			if want := fmt.Sprintf("frame %d", i+more+1); frame != want || length != len(want) {
				t.Fatalf("frame %d of the file is %q of %d bytes, want %q", i, frame, length, want)
			}
		case kept != capturedBytes || length != len(long):
			t.Errorf("of a long frame are %d bytes of %d, want %d of %d", kept, length, capturedBytes, len(long))
		}
	}
	if len(b) != 0 {
		t.Errorf("%d bytes are left", len(b))
	}
}
