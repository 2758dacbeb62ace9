// SPDX-License-Identifier: Apache-2.0

// Package nlevents subscribes to the kernel's events about the network namespace that the calling thread is in: the
// host's.
package nlevents

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Options say which events are wanted. All but Protocol and Groups are optional.
type Options struct {
	Protocol int             // of netlink, such as unix.NETLINK_ROUTE
	Buffer   int             // bytes of events that wait, which takes CAP_NET_ADMIN; zero: the kernel's default
	Filter   *unix.SockFprog // what passes; nil: all
	Groups   []int           // such as unix.RTNLGRP_LINK
}

// Subscribe returns a socket that receives the events. The caller closes it.
func Subscribe(o Options) (*nl.NetlinkSocket, error) {
	socket, err := nl.Subscribe(o.Protocol)
	if err != nil {
		return nil, err
	}
	if err := setUp(socket, o); err != nil {
		socket.Close()
		return nil, err
	}
	return socket, nil
}

func setUp(socket *nl.NetlinkSocket, o Options) error {
	if o.Buffer > 0 { // CAP_NET_ADMIN allows more than net.core.rmem_max
		if err := socket.SetReceiveBufferSize(o.Buffer, true); err != nil {
			return err
		}
	}
	if o.Filter != nil {
		err := unix.SetsockoptSockFprog(socket.GetFd(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, o.Filter)
		if err != nil {
			return err
		}
	}
	// nl.Subscribe would join the groups by itself, but when the kernel refuses that, it closes the descriptor twice
	// (v1.3.1), the second time whenever the garbage is collected, and perhaps somebody else's by then.
	for _, group := range o.Groups {
		err := unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		if err != nil {
			return err
		}
	}
	return nil
}
