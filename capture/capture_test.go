// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/capture/filter"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
)

// wire is a veth pair from a host to a container, both in namespaces of their own.
type wire struct {
	t          *testing.T
	host, ns   *nstest.NS
	links      []Link // the container end, then the host end
	containers netip.Addr
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{t: t, host: nstest.New(t), ns: nstest.New(t), containers: netip.MustParseAddr("10.32.0.2")}
	peer, _ := nstest.Veth(t, w.host, w.ns, "host0", "10.32.0.2/24")
	w.host.Do(t, func() error {
		link, err := netlink.LinkByName("host0")
		if err != nil {
			return err
		}
		address, err := netlink.ParseAddr("10.32.0.1/24")
		return errors.Join(err, netlink.AddrAdd(link, address), netlink.LinkSetUp(link))
	})
	l, err := launch.New(launch.Options{Path: nstest.Nsproc(t), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	inside, err := l.Packets(t.Context(), w.ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	var eth0, outside int
	w.ns.Do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			eth0 = link.Attrs().Index
		}
		return err
	})
	w.host.Do(t, func() (err error) {
		outside, err = Open()
		return err
	})
	w.links = []Link{
		{Name: "web eth0", Comment: "container end", Index: eth0, Socket: inside},
		{Name: "web host0", Comment: "host end", Index: peer, Socket: outside},
	}
	return w
}

// send sends datagrams to a port of the container's, until ctx ends.
func (w *wire) send(ctx context.Context, port int) {
	w.host.Do(w.t, func() error {
		c, err := net.Dial("udp4", netip.AddrPortFrom(w.containers, uint16(port)).String())
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				_, _ = c.Write(make([]byte, 100)) // an answer that nobody is there is an error
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		}()
		return nil
	})
}

func parse(t *testing.T, text string) filter.Expr {
	t.Helper()
	e, err := filter.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestCapture: what the filter is true of is in the file, from both ends, with their names and times.
func TestCapture(t *testing.T) {
	w := newWire(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.send(ctx, 7)
	w.send(ctx, 9)
	start := time.Now()
	r, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- errors.Join(Run(ctx, out, w.links, parse(t, "udp dst port 9"), Limits{Packets: 10}), out.Close())
	}()
	file, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]int{}
	for {
		data, info, err := file.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[info.InterfaceIndex]++
		if len(data) != 142 || data[36] != 0 || data[37] != 9 {
			t.Errorf("%d bytes to another port: %x", len(data), data)
		}
		if info.Timestamp.Before(start.Add(-time.Second)) || info.Timestamp.After(time.Now()) {
			t.Errorf("a packet of %v", info.Timestamp)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if seen[0]+seen[1] != 10 || seen[0] == 0 || seen[1] == 0 {
		t.Errorf("packets by interface %v, want ten, some of each", seen)
	}
	for i, want := range w.links {
		got, err := file.Interface(i)
		if err != nil || got.Name != want.Name || got.Comment != want.Comment {
			t.Errorf("interface %+v, error %v, want %+v", got, err, want)
		}
	}
}

// TestEnds: a capture ends with its context, its time, its bytes, its links, or its reader.
func TestEnds(t *testing.T) {
	broken := errors.New("nobody reads")
	for name, tc := range map[string]struct {
		limits Limits
		writer io.Writer
		after  func(w *wire, cancel func())
		err    string
	}{
		"context": {after: func(_ *wire, cancel func()) { cancel() }},
		"time":    {limits: Limits{Time: time.Millisecond}},
		"bytes":   {limits: Limits{Bytes: 1000}},
		"link": {after: func(w *wire, _ func()) {
			w.host.Do(w.t, func() error {
				link, err := netlink.LinkByName("host0")
				return errors.Join(err, netlink.LinkDel(link))
			})
		}, err: "capture on web"},
		"reader": {writer: &failing{after: 1, err: broken}, err: broken.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sending, stop := context.WithCancel(t.Context())
			defer stop()
			w.send(sending, 9)
			begun := make(chan struct{})
			var out io.Writer = &signaling{begun: begun, w: io.Discard}
			if tc.writer != nil {
				out = &signaling{begun: begun, w: tc.writer}
			}
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, out, w.links, parse(t, ""), tc.limits) }()
			<-begun
			if tc.after != nil {
				tc.after(w, cancel)
			}
			err := <-ended
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}

// signaling closes begun with its first write.
type signaling struct {
	begun chan struct{}
	w     io.Writer
	done  bool
}

func (s *signaling) Write(b []byte) (int, error) {
	if !s.done {
		s.done = true
		close(s.begun)
	}
	return s.w.Write(b)
}

// failing fails after some writes.
type failing struct {
	after int
	err   error
}

func (f *failing) Write(b []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, f.err
	}
	return len(b), nil
}

// TestLastFrames: what was heard before a link is gone is written.
func TestLastFrames(t *testing.T) {
	r, w := io.Pipe()
	gone := errors.New("the link is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	frames := make(chan frame, waiting)
	for range waiting {
		frames <- frame{data: make([]byte, 60), size: 60, time: time.Now()}
	}
	ended := make(chan error, 1)
	go func() {
		file, err := newFile(w, []Link{{Name: "web eth0"}})
		if err == nil {
			err = write(ctx, file, frames, Limits{})
		}
		ended <- err
		_ = w.Close() // the reader sees it
	}()
	file, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil; n++ {
		_, _, err = file.ReadPacketData()
	}
	if n-1 != waiting || !errors.Is(err, io.EOF) {
		t.Errorf("%d packets, then %v; want %d", n-1, err, waiting)
	}
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("ended with %v, want %v", err, gone)
	}
}

func TestTag(t *testing.T) {
	f := frame{data: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0, 0x45}, size: 15}
	auxdata := make([]byte, 20)
	f.tag(auxdata)
	if f.size != 15 {
		t.Error("a tag where there is none")
	}
	auxdata[0] = 0x50 // TP_STATUS_VLAN_VALID and TP_STATUS_VLAN_TPID_VALID
	auxdata[16], auxdata[17] = 0x00, 0x20
	auxdata[18], auxdata[19] = 0x00, 0x81
	f.tag(auxdata)
	if want := []byte{0x81, 0x00, 0x20, 0x00, 8, 0, 0x45}; f.size != 19 || string(f.data[12:]) != string(want) {
		t.Errorf("got %x of %d bytes, want %x behind the MACs", f.data, f.size, want)
	}
	f = frame{data: make([]byte, SnapLength), size: SnapLength}
	f.tag(auxdata)
	if len(f.data) != SnapLength || f.size != SnapLength+4 {
		t.Errorf("%d of %d bytes, want %d of %d", len(f.data), f.size, SnapLength, SnapLength+4)
	}
}
