// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nlevents"
	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// eventBuffer holds the link events of a burst, in bytes: some 2 kB each.
	eventBuffer = 4 << 20
	// watchPause is the time between two attempts to subscribe to link events.
	watchPause = time.Second
)

// eventGroups are the kernel's events about what weave keeps: links and bridge ports, addresses, tc programs, and those
// sysctls of links of which it tells.
var eventGroups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_TC, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_IFINFO,
	unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
}

// watchLinks follows the carrier of the host ends, and notes which links somebody may have changed, until ctx ends. The
// carrier comes up when Docker sets the container end up, after it has set its addresses. If events were lost it starts
// again with the present state of every link.
func (d *Driver) watchLinks(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.followLinks(ctx); err != nil && ctx.Err() == nil {
			d.log.WithError(err).Warn("link events: listening again")
			wait.For(ctx, watchPause)
		}
	}
}

func (d *Driver) followLinks(ctx context.Context) error {
	socket, err := nlevents.Subscribe(nlevents.Options{
		Protocol: unix.NETLINK_ROUTE, Buffer: eventBuffer, Groups: eventGroups,
	})
	if err != nil {
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	defer wait.CloseAfter(ctx, socket)() // the end of ctx ends Receive
	existing, err := listLinks(ctx)
	if err != nil {
		return err
	}
	e := events{d: d, links: map[int]linkID{}}
	for _, link := range existing {
		a := link.Attrs()
		e.links[a.Index] = linkID{a.Name, a.Alias}
		e.noteCarrier(a.Name, hasCarrier(link))
	}
	d.changed.noteAll()
	d.lookAtWaysOut()
	for {
		messages, from, err := socket.Receive()
		if err != nil {
			return fmt.Errorf("receive link events: %w", err)
		}
		for _, m := range messages {
			if from.Pid == nl.PidKernel {
				e.handle(m)
			}
		}
	}
}

// events handles the kernel's events, in order.
type events struct {
	d     *Driver
	links map[int]linkID // the host's links, by index
}

// handle handles one event: it notes the link that it is about.
func (e events) handle(m syscall.NetlinkMessage) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		e.link(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(m.Data) >= unix.SizeofIfAddrmsg {
			e.noteFull(indexAt(m.Data[4:]), e.d.processName(m.Header.Pid))
		}
	case unix.RTM_DELQDISC, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
		if len(m.Data) >= 8 { // struct tcmsg
			e.note(indexAt(m.Data[4:]))
		}
	case unix.RTM_NEWNETCONF:
		const header = 4        // struct netconfmsg of linux/netconf.h, padded
		const netconfaIndex = 1 // NETCONFA_IFINDEX; below 0 for what is about no single link
		_ = eachAttr(m.Data[min(header, len(m.Data)):], func(typ uint16, value []byte) error {
			switch {
			case typ != netconfaIndex || len(value) != 4:
			case indexAt(value) < 0: // whether the host routes packets, among others
				e.d.changed.noteAll()
			default:
				e.note(indexAt(value))
			}
			return nil
		})
	}
}

// link handles an event about a link. Those about a bridge port have the bridges' family; their RTM_DELLINK says that
// the link is no port any more, not that it is gone.
func (e events) link(m syscall.NetlinkMessage) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return
	}
	index, flags := indexAt(m.Data[4:]), binary.NativeEndian.Uint32(m.Data[8:])
	e.note(index) // under the name that it had
	var link linkID
	bridge := 0
	err := eachAttr(m.Data[unix.SizeofIfInfomsg:], func(typ uint16, value []byte) error {
		switch typ {
		case unix.IFLA_MASTER:
			if len(value) == 4 {
				bridge = indexAt(value)
			}
		case unix.IFLA_IFNAME:
			link.name = unix.ByteSliceToString(value)
		case unix.IFLA_IFALIAS:
			link.alias = unix.ByteSliceToString(value)
		}
		return nil
	})
	if err != nil {
		return
	}
	if m.Data[0] == unix.AF_BRIDGE && !isOwnName(link.name) {
		e.noteFull(bridge, "")
	}
	if m.Data[0] != unix.AF_UNSPEC {
		return
	}
	isThere := m.Header.Type == unix.RTM_NEWLINK
	isUp := isThere && flags&unix.IFF_LOWER_UP != 0
	e.noteCarrier(link.name, isUp)
	if isUp && e.links[bridge].name == WayOut {
		e.d.lookAtWaysOut()
	}
	if !isThere {
		delete(e.links, index)
		return
	}
	e.links[index] = link
	e.note(index)
}

// note notes that a link may have been changed.
func (e events) note(index int) {
	if link, ok := e.links[index]; ok {
		e.d.changed.note(link)
	}
}

// noteFull notes it where a look at the link alone would not show all.
func (e events) noteFull(index int, by string) {
	if link, ok := e.links[index]; ok {
		e.d.changed.noteFull(link, by)
	}
}

func (e events) noteCarrier(link string, up bool) {
	if strings.HasPrefix(link, hostEndPrefix) {
		e.d.tracked.setCarrier(link, up)
	}
}

func indexAt(b []byte) int { return int(int32(binary.NativeEndian.Uint32(b))) }

// processName returns what can be told of the process that a netlink port belongs to. The number of a port is mostly
// the process's; the kernel tells it with events about addresses, but not with those about links.
func (d *Driver) processName(port uint32) string {
	id := strconv.FormatUint(uint64(port), 10)
	name, err := os.ReadFile(filepath.Join("/", d.links.root, "proc", id, "comm"))
	if port == 0 || err != nil {
		return "" // it has ended, as commands do
	}
	return fmt.Sprintf("%q (process %s)", strings.TrimSpace(string(name)), id)
}
