// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// NameSockets are the sockets that protocol.Names asks for, by its constants. They belong to the sandbox's namespace,
// which exists as long as one of them is open.
type NameSockets [protocol.NamesSockets]int

// Close closes all of the sockets.
func (s NameSockets) Close() error {
	var errs []error
	for _, fd := range s {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// Names opens sockets in the sandbox at path, Docker's SandboxKey, with which questions for names are answered there,
// and makes the table that leads questions to them after nft.Refresh. Errors are as in Configure; whether the kernel
// can make the table at all is told by nft.Supported. The caller closes the sockets.
func (l *Launcher) Names(ctx context.Context, path string) (NameSockets, error) {
	sockets, err := l.names(ctx, path)
	if err != nil {
		return NameSockets{}, fmt.Errorf("open sockets for names in sandbox %s: %w", path, err)
	}
	return sockets, nil
}

func (l *Launcher) names(ctx context.Context, path string) (sockets NameSockets, err error) {
	got, err := l.sockets(ctx, path, protocol.Request{Names: &protocol.Names{}}, len(sockets))
	copy(sockets[:], got)
	return sockets, err
}

// Disconnect ends a socket's connection, so that it can have another one, from another port. The socket stays one of
// its namespace.
func Disconnect(socket int) error {
	unspecified := unix.RawSockaddr{Family: unix.AF_UNSPEC} // package unix has no other way to say it
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(socket), uintptr(unsafe.Pointer(&unspecified)),
		unsafe.Sizeof(unspecified))
	if errno != 0 {
		return fmt.Errorf("disconnect a socket: %w", errno)
	}
	return nil
}
