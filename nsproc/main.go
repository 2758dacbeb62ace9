// SPDX-License-Identifier: Apache-2.0

// Command nsproc works inside a container's network namespace for the plugin: it reads one request from its standard
// input, writes one reply to its standard output, and exits. Package protocol defines the messages.
//
// A Go program cannot safely move threads between namespaces: if a thread can't be moved back, or the runtime creates
// a new thread from a moved one, it stays in the wrong namespace and may run any goroutine there later. nsproc moves
// none. It enters the namespace before its Go runtime starts, in the few instructions of its own ELF entry point
// (entry_amd64.s, entry_arm64.s), so that all threads of the runtime are created inside. It is built with:
//
//	CGO_ENABLED=0 go build -ldflags '-E weave_nsproc_entry' ./nsproc
//
// The plugin passes the namespace as descriptor 3. A binary that was built without the entry point would work in the
// host's namespace; so nsproc first checks where it is.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/record"
)

// main needs no timeout: the request is there when it starts and reading from the kernel has a timeout, so nsproc
// ends even if the plugin does not exist any more. While it exists, the plugin kills an nsproc that takes too long.
func main() {
	reply, status := answer(os.Stdin)
	if _, err := os.Stdout.Write(reply); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// answer checks the namespace, reads the request and executes it. It returns nsproc's output and exit status.
func answer(r io.Reader) (reply []byte, status int) {
	if err := checkNamespace(protocol.NamespaceFD); err != nil {
		return refusal("check namespace", err)
	}
	req, err := protocol.ReadRequest(r)
	if err != nil {
		return refusal("read request", err)
	}
	var recorder *record.Recorder
	if req.Record {
		recorder = record.New(protocol.RecordFD, protocol.MaxRecord)
	}
	return execute(req, recorder)
}

// execute does what is requested. It returns nsproc's output and exit status.
func execute(req *protocol.Request, recorder *record.Recorder) (reply []byte, status int) {
	switch {
	case req.List != nil:
		dump, err := list(*req.List, recorder)
		if err == nil && len(dump) > protocol.MaxReply {
			err = fmt.Errorf("the sandbox has more than fits into %d MB", protocol.MaxReply>>20)
		}
		if err != nil {
			return refusal("list", err)
		}
		return dump, 0
	case req.Limit != nil:
		return outcome("limit", nil, limit(*req.Limit, recorder))
	case req.Names != nil:
		return outcome("names", nil, names(recorder))
	case req.Packets != nil:
		return outcome("packets", nil, packets())
	case req.Probes != nil:
		return outcome("probes", nil, probes(*req.Probes))
	}
	skipped, err := configure(*req.Configure, recorder)
	return outcome("configure", skipped, err)
}

// outcome returns the output and the exit status for a request that was done, but for what was skipped, or that failed.
func outcome(op string, skipped []string, err error) ([]byte, int) {
	if err != nil {
		return refusal(op, err)
	}
	return encode(protocol.Reply{Skipped: skipped}), 0
}

// refusal returns the output and the exit status for a request that failed.
func refusal(op string, err error) ([]byte, int) {
	e := &protocol.Error{Op: op, Message: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		e.Errno = int(errno)
	}
	return encode(protocol.Reply{Error: e}), protocol.Refused
}

func encode(reply protocol.Reply) []byte {
	reply.Version = protocol.Version
	b, err := json.Marshal(reply)
	if err != nil {
		panic(err) // strings and numbers can always be encoded
	}
	return b
}
