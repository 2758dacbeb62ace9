// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// Packets opens a packet socket in the sandbox at path, Docker's SandboxKey, which does not block and hears nothing
// until it is bound to a link: bind(2) means the links of the sandbox, from wherever it is called. Errors are as in
// Configure. The caller closes the socket.
func (l *Launcher) Packets(ctx context.Context, path string) (fd int, err error) {
	got, err := l.sockets(ctx, path, protocol.Request{Packets: &protocol.Packets{}}, 1)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket in sandbox %s: %w", path, err)
	}
	return got[0], nil
}

// Probes opens the sockets that protocol.Probes asks for in the sandbox at path, Docker's SandboxKey. Errors are as in
// Configure. The caller closes the sockets.
func (l *Launcher) Probes(ctx context.Context, path string, ipv6 bool) (s [protocol.ProbeSockets]int, err error) {
	got, err := l.sockets(ctx, path, protocol.Request{Probes: &protocol.Probes{IPv6: ipv6}}, len(s))
	if err != nil {
		return s, fmt.Errorf("open sockets for probes in sandbox %s: %w", path, err)
	}
	copy(s[:], got)
	return s, nil
}

// sockets runs nsproc with a request for so many sockets, and returns them.
func (l *Launcher) sockets(ctx context.Context, path string, req protocol.Request, wanted int) ([]int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make sockets for nsproc: %w", err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "nsproc's socket")
	defer theirs.Close()
	output, err := l.request(ctx, path, req, theirs)
	if err != nil {
		return nil, err
	}
	if _, err := protocol.DecodeReply(output); err != nil {
		return nil, fmt.Errorf("nsproc: %w", err)
	}
	return receiveSockets(pair[0], wanted)
}

// receiveSockets returns the sockets that nsproc, which has ended, has passed.
func receiveSockets(fd, wanted int) ([]int, error) {
	control := make([]byte, unix.CmsgSpace(4*wanted))
	_, n, flags, _, err := unix.Recvmsg(fd, make([]byte, 1), control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive nsproc's sockets: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, fmt.Errorf("receive nsproc's sockets: %w", err)
	}
	var got []int
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, fmt.Errorf("receive nsproc's sockets: %w", err)
		}
		got = append(got, fds...)
	}
	if len(got) == wanted {
		return got, nil
	}
	for _, fd := range got {
		unix.Close(fd)
	}
	if flags&unix.MSG_CTRUNC != 0 {
		err = unix.EMFILE
	} else {
		err = errors.New("they are not what was asked for")
	}
	return nil, fmt.Errorf("receive nsproc's sockets: %d came: %w", len(got), err)
}
