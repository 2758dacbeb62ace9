// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// packets opens the socket that protocol.Packets asks for, and passes it to the plugin. It is bound to no protocol, so
// that it hears nothing before the plugin has put a filter at it.
func packets() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	return passSockets(fd)
}

// passSockets passes sockets to the plugin.
func passSockets(fds ...int) error {
	if err := unix.Sendmsg(protocol.SocketsFD, []byte{0}, unix.UnixRights(fds...), nil, 0); err != nil {
		return fmt.Errorf("pass the sockets to the plugin: %w", err)
	}
	return nil
}
