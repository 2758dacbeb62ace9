// SPDX-License-Identifier: Apache-2.0

// Package capture writes what passes links to a file that tcpdump and Wireshark read: pcapng, with each of the links as
// an interface of its own, named.
//
// It runs in the host's network namespace. A link in a container's namespace is heard by a socket that nsproc has
// opened there; nothing is installed in the container, and no port is opened.
package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/net/bpf"
	"golang.org/x/sync/errgroup"

	"github.com/weaveplugin/weave/capture/filter"
)

// SnapLength is how many bytes of a frame are kept at most.
const SnapLength = 256 << 10

// waiting is how many frames wait to be written, of all links; when there are more the kernel drops some, and counts
// them.
const waiting = 64

// Link is one that is heard.
type Link struct {
	Name    string // in the file
	Comment string // likewise: whose it is
	Index   int    // in the namespace of the socket
	Socket  int    // packet socket of that namespace, which does not block; Run closes it
}

// Limits say when a capture ends. A zero is no limit.
type Limits struct {
	Packets int
	Bytes   int64 // of frames
	Time    time.Duration
}

// Run writes the frames that the filter is true of, on all links, to w, each as soon as it is there, until ctx ends, a
// limit is reached or w takes no more. Frames of different links may not be in the order of their times. It closes the
// links' sockets in any case.
func Run(ctx context.Context, w io.Writer, links []Link, e filter.Expr, limits Limits) (err error) {
	sockets := make([]*os.File, len(links))
	for i, l := range links {
		sockets[i] = os.NewFile(uintptr(l.Socket), "packet socket of "+l.Name)
		defer sockets[i].Close()
	}
	program, err := e.Program(SnapLength)
	if err != nil {
		return err
	}
	file, err := newFile(w, links)
	if err != nil {
		return err
	}
	if limits.Time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limits.Time)
		defer cancel()
	}
	return hear(ctx, file, sockets, links, program, limits)
}

// newFile writes the beginning of the file.
func newFile(w io.Writer, links []Link) (*pcapgo.NgWriter, error) {
	var file *pcapgo.NgWriter
	for i, l := range links {
		interf := pcapgo.NgInterface{
			Name: l.Name, Comment: l.Comment, LinkType: layers.LinkTypeEthernet, SnapLength: SnapLength,
			TimestampResolution: 9, OS: "Linux",
		}
		if i == 0 {
			var err error
			options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{OS: "Linux", Application: "weave"}}
			if file, err = pcapgo.NewNgWriterInterface(w, interf, options); err != nil {
				return nil, fmt.Errorf("begin the file: %w", err)
			}
			continue
		}
		if _, err := file.AddInterface(interf); err != nil {
			return nil, fmt.Errorf("begin the file: %w", err)
		}
	}
	if file == nil {
		return nil, errors.New("there is no link to capture on")
	}
	if err := file.Flush(); err != nil {
		return nil, fmt.Errorf("begin the file: %w", err)
	}
	return file, nil
}

// frame is one that was heard.
type frame struct {
	link int // index
	data []byte
	size int // of the whole, of which data may be the beginning
	time time.Time
}

// hear writes what is heard on the links.
func hear(
	ctx context.Context, file *pcapgo.NgWriter, sockets []*os.File, links []Link, program []bpf.RawInstruction,
	limits Limits,
) error {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	defer func() { _ = group.Wait() }() // what has failed was returned already, or is of no interest any more
	defer cancel()
	frames := make(chan frame, waiting)
	var begun []*reader
	for i, s := range sockets {
		r, err := begin(s, links[i], program)
		if err != nil {
			return err
		}
		begun = append(begun, r)
	}
	for i, r := range begun {
		group.Go(func() error { return r.read(ctx, i, frames) })
	}
	err := write(ctx, file, frames, limits)
	for i, r := range begun {
		err = errors.Join(err, r.writeCounts(file, i))
	}
	return errors.Join(err, file.Flush())
}

// reason returns why ctx has ended; nil: it was to end.
func reason(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err // a link is gone
}

// write writes frames until a limit is reached, or ctx has ended and none is left.
func write(ctx context.Context, file *pcapgo.NgWriter, frames <-chan frame, limits Limits) error {
	packets, written := 0, int64(0)
	for {
		var f frame
		select {
		case f = <-frames:
		case <-ctx.Done():
			select {
			case f = <-frames: // heard before: the last packets of a container that is gone are what one looks for
			default:
				return reason(ctx)
			}
		}
		info := gopacket.CaptureInfo{
			Timestamp: f.time, CaptureLength: len(f.data), Length: f.size, InterfaceIndex: f.link,
		}
		if err := errors.Join(file.WritePacket(info, f.data), file.Flush()); err != nil {
			return fmt.Errorf("write a packet: %w", err)
		}
		packets, written = packets+1, written+int64(len(f.data))
		if packets == limits.Packets || limits.Bytes > 0 && written >= limits.Bytes {
			return nil
		}
	}
}
