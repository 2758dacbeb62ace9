package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func newTestAllocator(subnet string) *allocator {
	p := netip.MustParsePrefix(subnet)
	first, last := usable(p, p)
	return newAllocator(first, last, netip.Addr{})
}

func TestUsable(t *testing.T) {
	for _, c := range []struct {
		subnet, within, first, last string
		size                        uint64
	}{
		{"10.0.0.0/24", "10.0.0.0/24", "10.0.0.1", "10.0.0.254", 254},
		{"10.0.0.0/24", "10.0.0.0/25", "10.0.0.1", "10.0.0.127", 127},
		{"10.0.0.0/24", "10.0.0.64/26", "10.0.0.64", "10.0.0.127", 64},
		{"10.0.0.0/24", "10.0.0.128/25", "10.0.0.128", "10.0.0.254", 127},
		{"10.0.0.0/24", "10.0.0.7/32", "10.0.0.7", "10.0.0.7", 1},
		{"10.0.0.0/24", "10.0.0.0/32", "10.0.0.1", "10.0.0.0", 0},
		{"10.0.0.0/30", "10.0.0.0/30", "10.0.0.1", "10.0.0.2", 2},
		{"10.0.0.0/31", "10.0.0.0/31", "10.0.0.0", "10.0.0.1", 2},
		{"10.0.0.1/32", "10.0.0.1/32", "10.0.0.1", "10.0.0.1", 1},
		{"10.0.0.0/8", "10.0.0.0/8", "10.0.0.1", "10.255.255.254", 1<<24 - 2},
		{"fd00::/64", "fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff", math.MaxUint64},
		{"fd00::/63", "fd00::/63", "fd00::1", "fd00::1:ffff:ffff:ffff:ffff", math.MaxUint64},
		{"fd00::/48", "fd00::/48", "fd00::1", "fd00::ffff:ffff:ffff:ffff:ffff", math.MaxUint64},
		{"fd00::/120", "fd00::/120", "fd00::1", "fd00::ff", 255},
		{"fd00::/127", "fd00::/127", "fd00::", "fd00::1", 2},
		{"fd00::5/128", "fd00::5/128", "fd00::5", "fd00::5", 1},
	} {
		first, last := usable(netip.MustParsePrefix(c.subnet), netip.MustParsePrefix(c.within))
		if first.String() != c.first || last.String() != c.last || distance(first, last) != c.size {
			t.Errorf("%s of %s: %s to %s, %d: want %s to %s, %d",
				c.within, c.subnet, first, last, distance(first, last), c.first, c.last, c.size)
		}
	}
}

func TestCarve(t *testing.T) {
	for _, c := range []struct {
		name, in string
		bits     int
		from     string
		taken    []string
		want     string // empty: none
	}{
		{"first", "10.32.0.0/12", 22, "", nil, "10.32.0.0/22"},
		{"goes on", "10.32.0.0/12", 22, "10.32.4.0", nil, "10.32.4.0/22"},
		{"goes on from between", "10.32.0.0/12", 22, "10.32.4.1", nil, "10.32.8.0/22"},
		{"comes round", "10.32.0.0/12", 22, "10.47.252.1", nil, "10.32.0.0/22"},
		{"from elsewhere", "10.32.0.0/12", 22, "10.99.0.0", nil, "10.32.0.0/22"},
		{"steps over a small one", "10.32.0.0/12", 22, "", []string{"10.32.1.0/24"}, "10.32.4.0/22"},
		{"steps over a large one", "10.32.0.0/12", 22, "", []string{"10.32.0.0/13"}, "10.40.0.0/22"},
		{"steps over several", "10.32.0.0/12", 22, "", []string{"10.32.4.0/22", "10.32.0.0/30", "10.32.8.0/21"}, "10.32.16.0/22"},
		{"comes round to a gap", "10.32.0.0/22", 24, "10.32.3.0", []string{"10.32.3.0/24", "10.32.0.0/24"}, "10.32.1.0/24"},
		{"none", "10.32.0.0/22", 24, "10.32.2.0", []string{"10.32.0.0/23", "10.32.2.0/25", "10.32.3.255/32"}, ""},
		{"all is taken", "10.32.0.0/12", 22, "", []string{"10.0.0.0/8"}, ""},
		{"the whole", "10.32.0.0/12", 12, "", nil, "10.32.0.0/12"},
		{"the end of all addresses", "255.255.255.0/24", 32, "", []string{"255.255.255.0/25", "255.255.255.128/25"}, ""},
		{"other family", "fd00:1::/48", 64, "", []string{"10.0.0.0/8", "fd00:1::/64"}, "fd00:1:0:1::/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, _ := netip.ParseAddr(c.from)
			var taken []netip.Prefix
			for _, p := range c.taken {
				taken = append(taken, netip.MustParsePrefix(p))
			}
			got, ok := carve(netip.MustParsePrefix(c.in), c.bits, from, taken)
			if want, err := netip.ParsePrefix(c.want); got != want || ok != (err == nil) {
				t.Errorf("%s, %v: want %q", got, ok, c.want)
			}
		})
	}
}

// model is the allocator said plainly, by going through all addresses.
type model struct {
	all   []netip.Addr
	held  map[netip.Addr]bool
	freed []netip.Addr
}

func (m *model) pick() (netip.Addr, bool) {
	for _, a := range m.all {
		if !m.held[a] && !slices.Contains(m.freed, a) {
			return a, true
		}
	}
	if len(m.freed) > 0 {
		return m.freed[0], true
	}
	return netip.Addr{}, false
}

// FuzzAllocator plays a game of requests and releases on the allocator and on the model, with restarts in between.
func FuzzAllocator(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\x01\x01\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x05\x09\x0d\x00\x00\x00\x02\x03\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, moves []byte) {
		a := newTestAllocator("10.0.0.0/28")
		m := model{held: map[netip.Addr]bool{}}
		for addr := a.first; ; addr = addr.Next() {
			m.all = append(m.all, addr)
			if addr == a.last {
				break
			}
		}
		for n, move := range moves {
			addr := m.all[int(move>>2)%len(m.all)]
			switch move & 3 {
			case 0: // the next address
				want, wantOK := m.pick()
				got, ok := a.pick()
				if got != want || ok != wantOK {
					t.Fatalf("move %d: %s, %v: want %s, %v", n, got, ok, want, wantOK)
				}
				if !ok {
					continue
				}
				addr = got
				fallthrough
			case 1: // this address
				if m.held[addr] {
					continue
				}
				a.hold(addr, epoch)
				m.held[addr] = true
				m.freed = slices.DeleteFunc(m.freed, func(f netip.Addr) bool { return f == addr })
			case 2: // give it back
				if !m.held[addr] {
					continue
				}
				a.release(addr)
				delete(m.held, addr)
				m.freed = append(m.freed, addr)
			case 3: // restart
				a = restarted(a)
			}
			if want := uint64(len(m.all) - len(m.held)); a.free() != want {
				t.Fatalf("move %d: %d are free: want %d", n, a.free(), want)
			}
		}
	})
}

// restarted is a as the records have it.
func restarted(a *allocator) *allocator {
	b := newAllocator(a.first, a.last, netip.Addr{})
	for addr, since := range a.held {
		b.hold(addr, since)
	}
	var freed []freedAddress
	for e := a.freed.Back(); e != nil; e = e.Prev() {
		freed = append(freed, e.Value.(freedAddress))
	}
	b.restore(freed)
	return b
}

func TestFreedAddressesComeLast(t *testing.T) {
	a := newTestAllocator("10.0.0.0/29")
	var got []string
	take := func() {
		addr, ok := a.pick()
		if !ok {
			got = append(got, "none")
			return
		}
		a.hold(addr, epoch)
		got = append(got, addr.String()[len("10.0.0."):])
	}
	give := func(s string) { a.release(netip.MustParseAddr("10.0.0." + s)) }
	take()
	take()
	give("2")
	give("1")
	for range 7 {
		take()
	}
	give("4")
	give("3")
	a.hold(netip.MustParseAddr("10.0.0.4"), epoch)
	give("4")
	take()
	take()
	take()
	if diff := cmp.Diff([]string{"1", "2", "3", "4", "5", "6", "2", "1", "none", "3", "4", "none"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMemoryGoesWithUse: what is remembered of freed addresses is bounded, and a forgotten address comes before the freed
// ones, in a range of any size.
func TestMemoryGoesWithUse(t *testing.T) {
	a := newTestAllocator("fd00::/64")
	const n = maxFreed + 1000
	for range n {
		addr, ok := a.pick()
		if !ok {
			t.Fatal("exhausted")
		}
		a.hold(addr, epoch)
		a.release(addr)
	}
	if a.freed.Len() != maxFreed || len(a.index) != maxFreed || len(a.held) != 0 {
		t.Errorf("%d, %d freed, %d held", a.freed.Len(), len(a.index), len(a.held))
	}
	if got, _ := a.pick(); got != netip.MustParseAddr(fmt.Sprintf("fd00::%x:%x", (n+1)>>16, (n+1)&0xffff)) {
		t.Errorf("%s comes next", got)
	}

	a = newTestAllocator("10.0.0.0/15")
	for range a.size {
		addr, _ := a.pick()
		a.hold(addr, epoch)
	}
	for addr := a.first; a.inside(addr); addr = addr.Next() {
		a.release(addr)
	}
	var got []string
	for range 2 {
		addr, _ := a.pick()
		a.hold(addr, epoch)
		got = append(got, addr.String())
	}
	if diff := cmp.Diff([]string{"10.0.0.1", "10.0.0.2"}, got); diff != "" {
		t.Errorf("forgotten addresses (-want +got):\n%s", diff)
	}
	if a.free() != a.size-2 {
		t.Errorf("%d are free of %d", a.free(), a.size)
	}
}

// BenchmarkFill16 fills a /16, and compares what the first and the last 1,000 addresses take.
func BenchmarkFill16(b *testing.B) {
	const sample = 1000
	var first, last time.Duration
	rounds := 0
	for b.Loop() {
		a := newTestAllocator("10.0.0.0/16")
		var start time.Time
		for n := range a.size {
			if n == 0 || n == a.size-sample {
				start = time.Now()
			}
			addr, ok := a.pick()
			if !ok {
				b.Fatal("exhausted")
			}
			a.hold(addr, epoch)
			switch n {
			case sample - 1:
				first += time.Since(start)
			case a.size - 1:
				last += time.Since(start)
			}
		}
		rounds++
	}
	perOp := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(rounds*sample) }
	b.ReportMetric(perOp(first), "ns/first")
	b.ReportMetric(perOp(last), "ns/last")
	b.ReportMetric(perOp(last)/perOp(first), "last/first")
}
