// SPDX-License-Identifier: Apache-2.0

// Package record keeps the datagrams that nsproc exchanges with the kernel, for whoever wants to see what it did.
// nsproc, in a container's namespace, writes them as they are; the plugin, in the host's, reads them and has package
// trace put them into words. It imports little, since every start of nsproc pays for what it imports.
package record

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// headerSize is the size in bytes of what precedes each datagram: time, direction, protocol, size.
const headerSize = 8 + 2 + 2 + 4

var native = binary.NativeEndian

// Recorder writes datagrams to a file. A nil Recorder does nothing, so that whoever exchanges messages need not know
// whether they are recorded. One goroutine at a time may use it.
type Recorder struct {
	fd    int
	left  int // bytes that may be written still
	start time.Time
}

// New returns a Recorder that writes at most size bytes to the descriptor fd. What is beyond is not recorded.
func New(fd, size int) *Recorder { return &Recorder{fd: fd, left: size, start: time.Now()} }

// Sent records a datagram to the kernel, of a protocol such as unix.NETLINK_ROUTE.
func (r *Recorder) Sent(protocol int, datagram []byte) { r.write(1, protocol, datagram) }

// Received records a datagram from the kernel, of a protocol such as unix.NETLINK_ROUTE.
func (r *Recorder) Received(protocol int, datagram []byte) { r.write(0, protocol, datagram) }

func (r *Recorder) write(sent uint16, protocol int, datagram []byte) {
	if r == nil || r.left == 0 {
		return
	}
	b := make([]byte, 0, headerSize+len(datagram))
	b = native.AppendUint64(b, uint64(time.Since(r.start)))
	b = native.AppendUint16(b, sent)
	b = native.AppendUint16(b, uint16(protocol))
	b = native.AppendUint32(b, uint32(len(datagram)))
	b = append(b, datagram...)
	r.left -= len(b)
	if r.left <= 0 {
		b, r.left = b[:1], 0 // for Read to see that it was cut off; there is room for it
	}
	if n, err := unix.Write(r.fd, b); err != nil || n < len(b) {
		r.left = 0
	}
}

// Datagram is what was sent or received at once: one message or several.
type Datagram struct {
	After    time.Duration // since nsproc has read its request
	Sent     bool          // to the kernel, not received from it
	Protocol int           // unix.NETLINK_ROUTE or unix.NETLINK_NETFILTER
	Messages []byte
}

// Read returns the datagrams in b, which a Recorder has written. Whole is false if the last one was cut off. Datagrams
// have their Messages in b.
func Read(b []byte) (all []Datagram, whole bool) {
	for len(b) >= headerSize {
		size := native.Uint32(b[12:])
		if uint64(size) > uint64(len(b)-headerSize) {
			break
		}
		end := headerSize + int(size)
		all = append(all, Datagram{
			After: time.Duration(native.Uint64(b)), Sent: native.Uint16(b[8:]) == 1,
			Protocol: int(native.Uint16(b[10:])), Messages: b[headerSize:end],
		})
		b = b[end:]
	}
	return all, len(b) == 0
}
