// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
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

// model does what the allocator does, in the simplest way: it goes through all addresses.
type model struct {
	all   []netip.Addr
	held  map[netip.Addr]bool
	freed []netip.Addr
}

func (m *model) pickNext() (netip.Addr, bool) {
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

// FuzzAllocator requests and releases addresses of the allocator and of the model, with restarts in between, and
// compares the answers.
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
				want, wantOK := m.pickNext()
				got, ok := a.pickNext()
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
				a.hold(addr, epoch, "")
				m.held[addr] = true
				m.freed = slices.DeleteFunc(m.freed, func(f netip.Addr) bool { return f == addr })
			case 2: // give it back
				if !m.held[addr] {
					continue
				}
				a.release(addr, epoch)
				delete(m.held, addr)
				m.freed = append(m.freed, addr)
			case 3: // restart
				a = restarted(a)
			}
			lowest, ok := a.pickFreed(epoch)
			if ok != (len(m.freed) > 0) || ok && lowest != slices.MinFunc(m.freed, netip.Addr.Compare) {
				t.Fatalf("move %d: %s, %v comes back: want the lowest of %v", n, lowest, ok, m.freed)
			}
			if want := uint64(len(m.all) - len(m.held)); a.free() != want {
				t.Fatalf("move %d: %d are free: want %d", n, a.free(), want)
			}
		}
	})
}

// restarted returns the allocator that is made of the records of a.
func restarted(a *allocator) *allocator {
	b := newAllocator(a.first, a.last, netip.Addr{})
	for addr, since := range a.held {
		b.hold(addr, since, a.owners[addr])
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
	request := func() {
		addr, ok := a.pickNext()
		if !ok {
			got = append(got, "none")
			return
		}
		a.hold(addr, epoch, "")
		got = append(got, addr.String()[len("10.0.0."):])
	}
	release := func(s string) { a.release(netip.MustParseAddr("10.0.0."+s), epoch) }
	request()
	request()
	release("2")
	release("1")
	for range 7 {
		request()
	}
	release("4")
	release("3")
	a.hold(netip.MustParseAddr("10.0.0.4"), epoch, "")
	release("4")
	request()
	request()
	request()
	if diff := cmp.Diff([]string{"1", "2", "3", "4", "5", "6", "2", "1", "none", "3", "4", "none"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFreedAddressesAreBounded checks that no more than maxFreed freed addresses are remembered, in a range of any
// size, and that an evicted address comes before the freed ones.
func TestFreedAddressesAreBounded(t *testing.T) {
	a := newTestAllocator("fd00::/64")
	const n = maxFreed + 1000
	for range n {
		addr, ok := a.pickNext()
		if !ok {
			t.Fatal("exhausted")
		}
		a.hold(addr, epoch, "")
		a.release(addr, epoch)
	}
	if a.freed.Len() != maxFreed || len(a.freedAt) != maxFreed || len(a.held) != 0 {
		t.Errorf("%d, %d freed, %d held", a.freed.Len(), len(a.freedAt), len(a.held))
	}
	if got, _ := a.pickNext(); got != netip.MustParseAddr(fmt.Sprintf("fd00::%x:%x", (n+1)>>16, (n+1)&0xffff)) {
		t.Errorf("%s comes next", got)
	}

	a = newTestAllocator("10.0.0.0/15")
	for range a.size {
		addr, _ := a.pickNext()
		a.hold(addr, epoch, "")
	}
	for addr := a.first; a.inside(addr); addr = addr.Next() {
		a.release(addr, epoch)
	}
	var got []string
	for range 2 {
		addr, _ := a.pickNext()
		a.hold(addr, epoch, "")
		got = append(got, addr.String())
	}
	if diff := cmp.Diff([]string{"10.0.0.1", "10.0.0.2"}, got); diff != "" {
		t.Errorf("evicted addresses (-want +got):\n%s", diff)
	}
	if a.free() != a.size-2 {
		t.Errorf("%d are free of %d", a.free(), a.size)
	}
}

// BenchmarkFill16 fills a /16, and compares the time that the first 1,000 and the last 1,000 addresses take.
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
			addr, ok := a.pickNext()
			if !ok {
				b.Fatal("exhausted")
			}
			a.hold(addr, epoch, "")
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
