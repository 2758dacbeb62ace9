// Command nsproc works inside a container's network namespace on the plugin's behalf: it reads one request from its
// standard input, writes one reply to its standard output, and exits.
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
	"time"

	"github.com/weaveplugin/weave/nsproc/launch"
)

// lifetime ends an nsproc that outlived its plugin; the plugin ends one that takes long much sooner.
const lifetime = 10 * time.Second

func main() {
	time.AfterFunc(lifetime, func() {
		fmt.Fprintf(os.Stderr, "no end after %v\n", lifetime)
		os.Exit(1)
	})
	reply, err := answer(os.Stdin)
	if err == nil {
		reply.Version = launch.Version
		err = json.NewEncoder(os.Stdout).Encode(reply)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// answer checks where it is, reads the request and does it. An error means that there is nobody to reply to.
func answer(r io.Reader) (launch.Reply, error) {
	if err := checkNamespace(launch.NamespaceFD); err != nil {
		return refusal("check namespace", err), nil
	}
	req, err := launch.ReadRequest(r)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return launch.Reply{}, err
	case err != nil:
		return refusal("read request", err), nil
	case req.List != nil:
		snapshot, err := list()
		if err != nil {
			return refusal("list", err), nil
		}
		return launch.Reply{Snapshot: snapshot}, nil
	default:
		skipped, err := configure(*req.Configure)
		if err != nil {
			return refusal("configure", err), nil
		}
		return launch.Reply{Skipped: skipped}, nil
	}
}

func refusal(op string, err error) launch.Reply {
	e := &launch.Error{Op: op, Message: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		e.Errno = int(errno)
	}
	return launch.Reply{Error: e}
}
