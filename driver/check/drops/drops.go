// SPDX-License-Identifier: Apache-2.0

// Package drops has the kernel tell which packets between two addresses it drops, where, and for which reason, in
// whichever network namespace that is.
//
// It runs in the host's network namespace. A BPF program at the kernel's tracepoint kfree_skb picks the packets out. A
// child process loads it, and reads what it has found; weave itself has no right to (see child.go).
package drops

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/weaveplugin/weave/internal/child"
)

// Drop is a packet that the kernel has dropped.
type Drop struct {
	Reason   string `json:"reason"`          // the kernel's name of it, such as NETFILTER_DROP
	Protocol string `json:"protocol"`        // arp, icmp, tcp, udp, or a number of IANA's
	Length   int    `json:"length"`          // in bytes, from its IP or ARP header on
	Link     string `json:"link,omitempty"`  // the name of the device that it was at; empty where it was at none
	NetNS    uint64 `json:"netns,omitempty"` // the inode number of that device's network namespace; 0: not known
}

// String returns the drop in words, but for the namespace.
func (d Drop) String() string {
	if d.Link == "" {
		return d.Reason
	}
	return d.Reason + " at " + d.Link
}

// watchTime is how long a Watcher may be there at most.
const watchTime = time.Minute

// started is what the child prints when it watches.
const started = "watching\n"

// Watcher watches the packets between two addresses. It is used by one goroutine at a time.
type Watcher struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	input  io.Closer // of the child: it stops when that is closed
	output *bufio.Reader
	errors *bytes.Buffer
}

// Watch begins to watch the packets between two addresses of one family, in both directions. It returns once it does.
// Where the kernel can't tell (it needs BTF and Linux 5.17; the process needs CAP_SYS_ADMIN in its bounding set, or
// CAP_BPF and CAP_PERFMON) the error says why. The caller calls Stop.
func Watch(ctx context.Context, a, b netip.Addr) (*Watcher, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTime)
	w := &Watcher{cancel: cancel, errors: new(bytes.Buffer)}
	w.cmd = child.Command(ctx, watcherName, a.String(), b.String())
	w.cmd.Stderr = w.errors
	err := w.start()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch what the kernel drops: %w", err)
	}
	return w, nil
}

// start starts the child and waits until it watches.
func (w *Watcher) start() error {
	input, err := w.cmd.StdinPipe()
	if err != nil {
		return err
	}
	output, err := w.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := w.cmd.Start(); err != nil {
		return err
	}
	w.input, w.output = input, bufio.NewReader(output)
	if line, err := w.output.ReadString('\n'); err != nil || line != started {
		return w.end(fmt.Errorf("it printed %.100q", line))
	}
	return nil
}

// Stop ends watching and returns what was dropped meanwhile, in the order in which it was.
func (w *Watcher) Stop() ([]Drop, error) {
	defer w.cancel()
	var out []Drop
	err := w.input.Close()
	if err == nil {
		err = json.NewDecoder(w.output).Decode(&out)
	}
	if err := w.end(err); err != nil {
		return nil, fmt.Errorf("watch what the kernel drops: %w", err)
	}
	return out, nil
}

// end waits for the child, which ends by itself or because of an error of the conversation with it; that is returned
// only if the child has nothing better to say.
func (w *Watcher) end(conversation error) error {
	if conversation != nil {
		w.cancel()
	}
	err := w.cmd.Wait()
	if said := strings.TrimSpace(w.errors.String()); said != "" {
		return errors.New(said)
	}
	if conversation != nil {
		return conversation
	}
	return err
}
