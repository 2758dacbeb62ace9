// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// newOutput returns a file in memory for the output of nsproc. It can't grow beyond one byte more than
// protocol.MaxReply, so that a process that writes without end gets an error. A pipe would need a goroutine that
// reads it, which makes the listing of 100 sandboxes a tenth slower.
func newOutput() (*os.File, error) { return newFile("nsproc's output", protocol.MaxReply+1) }

// newFile returns a file in memory that nsproc writes to, of at most size bytes. It takes memory for what is written.
func newFile(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory for %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	err = f.Truncate(size)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the size of %s: %w", name, err)
	}
	return f, nil
}

// readOutput returns what has been written to f, of newOutput.
func readOutput(f *os.File) ([]byte, error) {
	b, err := readFile(f)
	if err == nil && len(b) > protocol.MaxReply {
		return nil, fmt.Errorf("nsproc: a reply of more than %d bytes", protocol.MaxReply)
	}
	return b, err
}

// readFile returns what has been written to f: what is before the file offset, which nsproc's descriptors share.
func readFile(f *os.File) ([]byte, error) {
	n, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return b, nil
}
