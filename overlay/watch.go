// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nlevents"
	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// eventBuffer holds the events of a burst, in bytes: some 1 kB each.
	eventBuffer = 8 << 20
	// mostLost is how many entries are put back without a look at all.
	mostLost = 1000
	// watchPause is the time between two attempts to listen.
	watchPause = time.Second
)

// watch listens to the kernel's events about links, forwarding entries and neighbours until ctx ends, and notes the
// networks whose rows are not what they should be any more.
func (o *Overlay) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := o.follow(ctx); err != nil && ctx.Err() == nil {
			o.log.WithError(err).Warn("events about entries: listening again")
			wait.For(ctx, watchPause)
		}
	}
}

func (o *Overlay) follow(ctx context.Context) error {
	socket, err := nlevents.Subscribe(nlevents.Options{
		Protocol: unix.NETLINK_ROUTE, Buffer: eventBuffer, Filter: notOurs(),
		Groups: []int{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH},
	})
	if err != nil {
		return fmt.Errorf("subscribe to events about entries: %w", err)
	}
	defer wait.CloseAfter(ctx, socket)() // the end of ctx ends Receive
	o.Resync()                           // for what has happened before
	for {
		messages, from, err := socket.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			o.log.Debug("events about entries were lost: comparing all")
			o.Resync()
			continue
		}
		if err != nil {
			return fmt.Errorf("receive events about entries: %w", err)
		}
		for _, m := range messages {
			if from.Pid == nl.PidKernel {
				o.handle(m)
			}
		}
	}
}

// notOurs is a filter that lets all events by but those of new rows with weave's mark. So weave does not hear what it
// has entered itself: for 100,000 endpoints that would be more than the socket holds.
func notOurs() *unix.SockFprog {
	// Where nlmsg_type of struct nlmsghdr and ndm_flags of struct ndmsg are. Filters read big-endian numbers.
	const typeAt, flagsAt = 4, unix.SizeofNlMsghdr + 10
	newRow := uint32(binary.BigEndian.Uint16(native.AppendUint16(nil, unix.RTM_NEWNEIGH)))
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: typeAt},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: newRow, Jf: 2}, // to the last but one
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flagsAt},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: mark | sticky, Jt: 1}, // to the last
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}

// handle handles one event.
func (o *Overlay) handle(m syscall.NetlinkMessage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		o.handleLink(m)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		o.handleRow(m.Data, m.Header.Type == unix.RTM_DELNEIGH)
	}
}

// handleLink has a network be looked at whose links are other ones now, or are gone.
func (o *Overlay) handleLink(m syscall.NetlinkMessage) {
	if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
		return
	}
	index, name, bridge := int(int32(native.Uint32(m.Data[4:]))), "", 0
	for typ, value := range attributes(m.Data[unix.SizeofIfInfomsg:]) {
		switch {
		case typ == unix.IFLA_IFNAME:
			name = unix.ByteSliceToString(value)
		case typ == unix.IFLA_MASTER && len(value) == 4:
			bridge = int(native.Uint32(value))
		}
	}
	nw := o.byName[name]
	if nw == nil {
		nw = o.byIndex[index] // renamed
	}
	if nw == nil {
		return
	}
	now := nw.links
	switch {
	case m.Header.Type == unix.RTM_DELLINK || name != nw.device && name != nw.bridge:
		now = links{}
	case name == nw.device:
		now = links{index, bridge}
	default:
		now.bridge = index
	}
	if now != nw.links {
		nw.stale = true
		o.touch(nw)
	}
}

// handleRow has a network be looked at if one of its rows is gone, or has somebody else's row in its place. What weave
// changes itself is told here, too, and is in order.
func (o *Overlay) handleRow(b []byte, gone bool) {
	nw, r, ok := o.concerned(b)
	if !ok {
		return
	}
	if gone && r.Table == Neighbour { // told without its MAC, and without the mark
		r.MAC, r.usable = nw.wantedMAC(r.Address), true
	}
	wanted := nw.want.has(r.Entry)
	switch {
	case gone && wanted && r.usable: // somebody has removed it
		nw.lose(r.Entry)
	case !gone && wanted && !r.usable && !r.fixed: // the bridge has learned it at another port
		nw.lose(r.Entry)
	case !gone && r.fixed && wanted != r.usable: // somebody's row, which may be in the way
		nw.stale = true
	default:
		return
	}
	o.touch(nw)
}

// lose notes that an entry is not in the kernel any more. Of many a listing finds out.
func (nw *network) lose(e Entry) {
	if len(nw.lost) == mostLost {
		nw.stale = true
		return
	}
	nw.lost = append(nw.lost, e)
}

// concerned returns the network that a message about a neighbour is for, and the row.
func (o *Overlay) concerned(b []byte) (*network, row, bool) {
	if len(b) < unix.SizeofNdMsg {
		return nil, row{}, false
	}
	index := int(int32(native.Uint32(b[4:])))
	nw := o.byIndex[index]
	if nw == nil { // a row at another port of the bridge
		for typ, value := range attributes(b[unix.SizeofNdMsg:]) {
			if typ == unix.NDA_MASTER && len(value) == 4 {
				nw = o.byIndex[int(native.Uint32(value))]
			}
		}
	}
	if nw == nil {
		return nil, row{}, false
	}
	r, ok := decodeRow(b, nw.links)
	return nw, r, ok
}

// wantedMAC returns the MAC that the network wants an address to have; zero: it wants no entry for it.
func (nw *network) wantedMAC(a netip.Addr) mac.Address {
	if nw.addresses == nil {
		nw.addresses = map[netip.Addr]mac.Address{}
		for e := range nw.want {
			if e.Table == Neighbour {
				nw.addresses[e.Address] = e.MAC
			}
		}
	}
	return nw.addresses[a]
}
