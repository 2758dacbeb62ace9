// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// probes opens the sockets that protocol.Probes asks for, and passes them to the plugin.
func probes(p protocol.Probes) error {
	family, icmp := unix.AF_INET, unix.IPPROTO_ICMP
	if p.IPv6 {
		family, icmp = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	echo, err := unix.Socket(family, unix.SOCK_RAW|flags, icmp)
	if err != nil {
		return fmt.Errorf("open a socket for ICMP: %w", err)
	}
	connect, err := unix.Socket(family, unix.SOCK_STREAM|flags, 0)
	if err != nil {
		return fmt.Errorf("open a socket for TCP: %w", err)
	}
	ask, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|flags, 0)
	if err != nil {
		return fmt.Errorf("open a socket for UDP: %w", err)
	}
	var sockets [protocol.ProbeSockets]int
	sockets[protocol.SocketICMP], sockets[protocol.SocketConnect], sockets[protocol.SocketAsk] = echo, connect, ask
	return passSockets(sockets[:]...)
}
