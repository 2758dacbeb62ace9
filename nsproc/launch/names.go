// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
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

func (l *Launcher) names(ctx context.Context, path string) (NameSockets, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return NameSockets{}, fmt.Errorf("make sockets for nsproc: %w", err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "nsproc's socket")
	defer theirs.Close()
	output, err := l.request(ctx, path, protocol.Request{Names: &protocol.Names{}}, theirs)
	if err != nil {
		return NameSockets{}, err
	}
	if _, err := protocol.DecodeReply(output); err != nil {
		return NameSockets{}, fmt.Errorf("nsproc: %w", err)
	}
	return receiveSockets(pair[0])
}

// receiveSockets returns the sockets that nsproc, which has ended, has passed.
func receiveSockets(fd int) (sockets NameSockets, err error) {
	control := make([]byte, unix.CmsgSpace(4*len(sockets)))
	_, n, flags, _, err := unix.Recvmsg(fd, make([]byte, 1), control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return sockets, fmt.Errorf("receive nsproc's sockets: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return sockets, fmt.Errorf("receive nsproc's sockets: %w", err)
	}
	var got []int
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return sockets, fmt.Errorf("receive nsproc's sockets: %w", err)
		}
		got = append(got, fds...)
	}
	if copy(sockets[:], got) == len(sockets) && len(got) == len(sockets) {
		return sockets, nil
	}
	for _, fd := range got {
		unix.Close(fd)
	}
	if flags&unix.MSG_CTRUNC != 0 {
		err = unix.EMFILE
	} else {
		err = errors.New("they are not what was asked for")
	}
	return NameSockets{}, fmt.Errorf("receive nsproc's sockets: %d came: %w", len(got), err)
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
