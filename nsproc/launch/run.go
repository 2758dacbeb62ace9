// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"os"
	"time"

	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/record"
)

// Run is what one nsproc did: what it was asked, what it said to the kernel and the kernel to it, and what it answered.
type Run struct {
	Sandbox   string // Docker's SandboxKey
	Request   protocol.Request
	Datagrams []record.Datagram // in their order
	Whole     bool              // there were no more of them than protocol.MaxRecord has room for
	Answer    []byte            // what nsproc wrote; empty if Err is set
	Err       error
	Took      time.Duration
}

// Seen returns a Launcher that does what l does, and calls see, in the same goroutine, with each Run that has ended.
func (l *Launcher) Seen(see func(Run)) *Launcher {
	seen := *l
	seen.see = func(r Run) {
		if l.see != nil {
			l.see(r)
		}
		see(r)
	}
	return &seen
}

// recorded is execute for a Launcher whose Runs are seen.
func (l *Launcher) recorded(
	ctx context.Context, path string, req protocol.Request, socket *os.File,
) (answer []byte, err error) {
	file, err := newFile("the record of nsproc's messages", protocol.MaxRecord)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	req.Record = true
	start := time.Now()
	answer, err = l.execute(ctx, path, req, []*os.File{socket, file})
	run := Run{Sandbox: path, Request: req, Answer: answer, Err: err, Took: time.Since(start)}
	written, readErr := readFile(file)
	if readErr == nil { // otherwise the run is told without them
		run.Datagrams, run.Whole = record.Read(written)
	}
	l.see(run)
	return answer, err
}
