// Command nsproc works inside a container's network namespace on the plugin's behalf: it reads one request from its
// standard input, writes one reply to its standard output, and exits. The package protocol says what these look like.
//
// A Go program cannot safely move its threads between namespaces: a thread that the runtime clones, or that does not
// find its way back, stays in the wrong one and serves somebody else's request there. nsproc moves none. It enters the
// namespace before its Go runtime exists, in the few instructions of its own ELF entry point (entry_amd64.s,
// entry_arm64.s), so every thread that the runtime starts is born inside, and none ever leaves. It has to be built so:
//
//	CGO_ENABLED=0 go build -ldflags '-E weave_nsproc_entry' ./nsproc
//
// The plugin passes the namespace as descriptor 3. A binary built without that entry point would work on the host;
// nsproc therefore compares first, and refuses.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// main has no timer: nothing here waits for long (the request is there at the start, the kernel's answers have a limit),
// so an nsproc ends without its plugin, too; and the plugin ends one that takes long.
func main() {
	reply, status := answer(os.Stdin)
	if _, err := os.Stdout.Write(reply); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// answer checks where it is, reads the request and does it. It returns nsproc's reply and exit status.
func answer(r io.Reader) (reply []byte, status int) {
	if err := checkNamespace(protocol.NamespaceFD); err != nil {
		return refusal("check namespace", err)
	}
	req, err := protocol.ReadRequest(r)
	if err != nil {
		return refusal("read request", err)
	}
	if req.List != nil {
		dump, err := list(*req.List)
		if err != nil {
			return refusal("list", err)
		}
		return dump, 0
	}
	skipped, err := configure(*req.Configure)
	if err != nil {
		return refusal("configure", err)
	}
	return encode(protocol.Reply{Skipped: skipped}), 0
}

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
		panic(err) // it holds strings and numbers only
	}
	return b
}
