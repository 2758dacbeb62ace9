// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/overlay"
)

var sample = message{from: mac.Address{2, 1}, to: mac.Address{2, 2}, try: 2, token: 0x0102030405060708}

// samples are messages of all kinds, as a kernel gives them to the receiver: with their checksums.
func samples() map[message][]byte {
	out := map[message][]byte{}
	for i := range shapes {
		for _, answer := range []bool{false, true} {
			m := sample
			m.shape, m.answer, m.spoiled = uint8(i), answer, answer && i%2 == 0
			out[m] = m.frame(1431) // an odd number: the last byte counts as well
			if !m.form().plain {
				finishInner(out[m])
			}
		}
	}
	return out
}

// finishInner makes the checksum that a frame was sent without.
func finishInner(b []byte) {
	clear(b[:vnetHeader])
	at := transportAt + udpChecksumAt
	if b[ipAt+9] == unix.IPPROTO_TCP {
		at = transportAt + tcpChecksumAt
	}
	c := ^sum(0, b[transportAt:])
	b[at], b[at+1] = byte(c>>8), byte(c)
}

// TestChecksumOfZero: a checksum that comes to 0 is right, too. One of 65,536 tokens has one.
func TestChecksumOfZero(t *testing.T) {
	for i, shape := range shapes {
		if !shape.request.plain {
			continue
		}
		at, found := transportAt+udpChecksumAt, false
		for token := range uint64(1 << 17) {
			m := sample
			m.shape, m.token = uint8(i), token
			b := m.frame(smallestSize)
			if _, _, spoiled, ok := parse(b); spoiled || !ok {
				t.Fatalf("%+v: spoiled %t, ok %t", m, spoiled, ok)
			}
			found = found || b[at] == 0xff && b[at+1] == 0xff
		}
		if !found {
			t.Error("no token has such a checksum: the test shows nothing")
		}
	}
}

// TestFrames: what is sent is what is read, with a right checksum, and as large as it has to be.
func TestFrames(t *testing.T) {
	for m, b := range samples() {
		got, size, spoiled, ok := parse(b)
		if got != m || spoiled || !ok {
			t.Errorf("%+v is read as %+v, spoiled %t, ok %t", m, got, spoiled, ok)
		}
		want := smallestSize
		if m.form().large {
			want = 1431
		}
		if size != want || len(b) != ipAt+want {
			t.Errorf("%+v: a packet of %d bytes in a frame of %d, want %d", m, size, len(b)-vnetHeader, want)
		}
		if sum(0, b[ipAt:transportAt]) != 0xffff {
			t.Errorf("%+v: wrong checksum of the IP header", m)
		}
	}
}

// TestSpoiled: each bit of a packet that a checksum is of makes it wrong, unless the kernel vouches for it.
func TestSpoiled(t *testing.T) {
	for m, whole := range samples() {
		for _, at := range []int{ipAt + 12, transportAt, len(whole) - 1} {
			b := bytes.Clone(whole)
			b[at] ^= 4
			if _, _, spoiled, ok := parse(b); !spoiled || !ok {
				t.Errorf("%+v with byte %d changed: spoiled %t, ok %t", m, at, spoiled, ok)
			}
			for _, flag := range []byte{unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_F_DATA_VALID} {
				b[0] = flag
				if _, _, spoiled, _ := parse(b); spoiled {
					t.Errorf("%+v with flag %d: spoiled", m, flag)
				}
			}
		}
	}
}

// TestNoFrames: what is not exactly a probe is none.
func TestNoFrames(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   int
		to   byte
	}{
		{"another protocol than IPv4", vnetHeader + 12, 0x86}, {"options in the IP header", ipAt, 0x46},
		{"longer than its frame", ipAt + 2, 0xff}, {"shorter than a probe", ipAt + 3, smallestSize - 1},
		{"shorter than its header", ipAt + 3, 0},
		{"a fragment", ipAt + 6, 0x20}, {"ICMP", ipAt + 9, unix.IPPROTO_ICMP}, {"TCP in UDP's place", ipAt + 9, 6},
		{"another length of UDP", transportAt + 5, 1}, {"another version", transportAt + udpHeader + 3, 9},
		{"a shape that is not known", transportAt + udpHeader + 5, byte(len(shapes))},
		{"a shape of TCP", transportAt + udpHeader + 5, 2},
	} {
		b := sample.frame(0)
		b[tt.at] = tt.to
		if m, _, _, ok := parse(b); ok {
			t.Errorf("%s: %+v", tt.name, m)
		}
	}
	whole := sample.frame(0)
	for n := range whole {
		if _, _, _, ok := parse(whole[:n]); ok {
			t.Errorf("the first %d bytes are taken for a frame", n)
		}
	}
}

// TestHostMAC: hosts have different MACs, of one station, that no maker of cards has given.
func TestHostMAC(t *testing.T) {
	seen := map[mac.Address]bool{}
	for _, id := range []string{"", "a", "b", "0123456789abcdef"} {
		a := hostMAC(id)
		if seen[a] || !a.IsUnicast() || a[0]&2 == 0 || a != hostMAC(id) {
			t.Errorf("%q: %s", id, a)
		}
		seen[a] = true
	}
}

// FuzzParse: whatever comes does no harm, and no answer is longer than its request.
func FuzzParse(f *testing.F) {
	for _, b := range samples() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, size, spoiled, ok := parse(b)
		if !ok {
			return
		}
		if answer := m.answerTo(spoiled).frame(size); len(answer) > len(b) {
			t.Errorf("%d bytes are answered with %d", len(b), len(answer))
		}
		p := New(Options{Log: quiet()})
		p.mac = m.to
		p.byMAC[m.from] = &peer{token: m.token, begun: day, try: tries - 1}
		p.device = &device{Device: overlay.Device{MTU: 1 << 16}}
		p.o.Local = netip.MustParseAddr("192.0.2.1") // of another family than the host's: nothing is sent
		p.handle(b, day)
	})
}
