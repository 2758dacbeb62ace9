// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/child"
)

// loaderName is the argv[0] of the child process that loads the programs. The child is this program, executed once
// more: so it regains the capabilities that weave has given up.
const loaderName = "weave-load-tc"

// loadTimeout is how long loading may take; it takes some 10 ms.
const loadTimeout = 10 * time.Second

// socketFD is the descriptor of the socket by which the child sends the programs.
const socketFD = 3

func init() { child.Run(loaderName, runLoader) }

// load has a child process load all programs, and returns their descriptors by the programs' full names.
func load(ctx context.Context) (map[string]*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket for the process that loads tc programs: %w", err)
	}
	here, there := os.NewFile(uintptr(ends[0]), "tc programs"), os.NewFile(uintptr(ends[1]), "tc programs")
	defer here.Close()
	defer there.Close()

	cmd := child.Command(ctx, loaderName)
	cmd.ExtraFiles = []*os.File{there}
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("load tc programs: %w: %s", err, bytes.TrimSpace(output))
	}
	return receive(here)
}

// names returns the names of all programs in the order in which the child sends them.
func names() []string { return slices.Sorted(maps.Keys(programs())) }

// receive returns what the child has sent. The child has ended, so there is nothing to wait for.
func receive(socket *os.File) (map[string]*os.File, error) {
	names := names()
	rights := make([]byte, unix.CmsgSpace(4*len(names)))
	var data [1]byte
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), data[:], rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive tc programs: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receive tc programs: %d messages, want 1: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, fmt.Errorf("receive tc programs: %w", err)
	}
	out := map[string]*os.File{}
	for i, fd := range fds {
		out[fullName(names[min(i, len(names)-1)])] = os.NewFile(uintptr(fd), "tc program")
	}
	if len(fds) != len(names) {
		return nil, fmt.Errorf("receive tc programs: %d, want %d", len(fds), len(names))
	}
	return out, nil
}

// runLoader loads all programs and sends their descriptors.
func runLoader() error {
	// Before Linux 5.11 the kernel counts programs as locked memory. Without CAP_SYS_RESOURCE the limit stays, and is
	// enough for weave's.
	if err := rlimit.RemoveMemlock(); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	}
	var fds []int
	all := programs()
	for _, name := range names() {
		// The license is that of the helper functions that the kernel offers to any program.
		spec := &ebpf.ProgramSpec{Name: "weave", Type: ebpf.SchedCLS, Instructions: all[name], License: "Apache-2.0"}
		program, err := ebpf.NewProgram(spec)
		if err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
		fds = append(fds, program.FD())
	}
	if err := unix.Sendmsg(socketFD, []byte{0}, unix.UnixRights(fds...), nil, 0); err != nil {
		return fmt.Errorf("send the programs: %w", err)
	}
	return nil
}
