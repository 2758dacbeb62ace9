// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/nft"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/record"
)

// waitingConnections is how many connections the kernel accepts before the plugin has looked at one.
const waitingConnections = 64

// names opens the sockets that protocol.Names asks for, makes the table, and passes all of them to the plugin. Nothing
// closes them here: nsproc ends at once, and what the plugin has not got by then is gone, the table included.
func names(recorder *record.Recorder) error {
	var sockets [protocol.NamesSockets]int
	var ports [2]uint16
	for i, s := range []struct {
		kind  int
		serve func(fd int) error
	}{
		protocol.SocketUDP:    {unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, bind},
		protocol.SocketTCP:    {unix.SOCK_STREAM | unix.SOCK_NONBLOCK, listen},
		protocol.SocketDocker: {unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, connect},
		protocol.SocketStream: {unix.SOCK_STREAM, mark},
	} {
		fd, err := unix.Socket(unix.AF_INET, s.kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		if err := s.serve(fd); err != nil {
			return err
		}
		sockets[i] = fd
	}
	for i := range ports {
		own, err := unix.Getsockname(sockets[i])
		if err != nil {
			return fmt.Errorf("get a socket's port: %w", err)
		}
		if sa, ok := own.(*unix.SockaddrInet4); ok {
			ports[i] = uint16(sa.Port)
		}
	}
	table, err := nft.Dial()
	if err != nil {
		return err
	}
	sockets[protocol.SocketTable] = table
	if err := nft.Redirect(table, ports[protocol.SocketUDP], ports[protocol.SocketTCP], recorder); err != nil {
		return fmt.Errorf("make the table that leads questions to weave: %w", err)
	}
	return passSockets(sockets[:]...)
}

// bind binds a socket to a free port of the address of Docker's resolver: where answers come from is then right but
// for the port.
func bind(fd int) error {
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: nft.Resolver.As4()}); err != nil {
		return fmt.Errorf("bind a socket to %s: %w", nft.Resolver, err)
	}
	return nil
}

func listen(fd int) error {
	if err := bind(fd); err != nil {
		return err
	}
	if err := unix.Listen(fd, waitingConnections); err != nil {
		return fmt.Errorf("listen on %s: %w", nft.Resolver, err)
	}
	return nil
}

// mark marks what the socket sends as weave's own, which the table leaves alone.
func mark(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, nft.Mark); err != nil {
		return fmt.Errorf("mark a socket: %w", err)
	}
	return nil
}

func connect(fd int) error {
	if err := mark(fd); err != nil {
		return err
	}
	if err := unix.Connect(fd, nft.DockersResolver()); err != nil {
		return fmt.Errorf("connect a socket to %s: %w", nft.Resolver, err)
	}
	return nil
}
