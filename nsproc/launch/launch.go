// SPDX-License-Identifier: Apache-2.0

// Package launch starts nsproc, the process that works inside a container's network namespace, and exchanges messages
// with it. The package itself runs in the host's namespace and never leaves it.
package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/rtnl"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

// The errors for a sandbox that can't be opened, as package sandbox has them.
var (
	ErrNoSandbox  = sandbox.ErrGone
	ErrNotVisible = sandbox.ErrNotVisible
	ErrHost       = sandbox.ErrHost
)

// DefaultTimeout is how long one nsproc may run if Options has no Timeout. nsproc takes 2 ms, but a busy machine may
// keep it waiting.
const DefaultTimeout = 5 * time.Second

// Options are the parameters of a Launcher.
type Options struct {
	Path    string        // of the nsproc binary, absolute; required
	Root    sandbox.Root  // where the host's file system is mounted
	Timeout time.Duration // for one request; zero: DefaultTimeout
	See     func(Run)     // as Seen has it; optional

	// Ended is called when an nsproc has ended, in the goroutine that has waited for it, with the time that it took and
	// its error, or that of starting it. Optional.
	Ended func(took time.Duration, err error)
}

// Launcher runs one nsproc for each request. Several goroutines may use it at once.
type Launcher struct {
	path    string
	root    sandbox.Root
	timeout time.Duration
	see     func(Run) // nil: nothing is recorded
	ended   func(time.Duration, error)
}

// New returns a Launcher after checking the options, among them that Path leads to an executable file.
func New(o Options) (*Launcher, error) {
	if !filepath.IsAbs(o.Path) {
		return nil, fmt.Errorf("nsproc %q: want an absolute path", o.Path)
	}
	info, err := os.Stat(o.Path)
	if err != nil {
		return nil, fmt.Errorf("nsproc: %w: install it beside the plugin", err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("nsproc %s: want an executable file", o.Path)
	}
	if o.Timeout < 0 {
		return nil, fmt.Errorf("nsproc timeout %v: want a positive duration", o.Timeout)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Ended == nil {
		o.Ended = func(time.Duration, error) {}
	}
	return &Launcher{path: o.Path, root: o.Root, timeout: o.Timeout, see: o.See, ended: o.Ended}, nil
}

// Sandboxes returns the root under which the Launcher opens sandboxes.
func (l *Launcher) Sandboxes() sandbox.Root { return l.root }

// List returns what is in the sandbox at path, Docker's SandboxKey. The error wraps ErrNoSandbox, ErrNotVisible,
// ErrHost, protocol.ErrVersion or a *protocol.Error if that is the reason.
func (l *Launcher) List(ctx context.Context, path string, what protocol.List) (*netstate.Snapshot, error) {
	dump, err := l.request(ctx, path, protocol.Request{List: &what}, nil)
	if err != nil {
		return nil, fmt.Errorf("list sandbox %s: %w", path, err)
	}
	snapshot, err := rtnl.Decode(dump)
	if err != nil {
		return nil, fmt.Errorf("list sandbox %s: decode nsproc's reply: %w", path, err)
	}
	return snapshot, nil
}

// Configure configures a container end in the sandbox at path, Docker's SandboxKey. skipped lists what was left out
// and why; the container end works without it. Errors are as in List; the error wraps syscall.ENODEV if the container
// end is not in the sandbox.
func (l *Launcher) Configure(ctx context.Context, path string, c protocol.Configure) (skipped []string, err error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("configure sandbox %s: %w", path, err)
	}
	output, err := l.request(ctx, path, protocol.Request{Configure: &c}, nil)
	if err != nil {
		return nil, fmt.Errorf("configure sandbox %s: %w", path, err)
	}
	reply, err := protocol.DecodeReply(output)
	if err != nil {
		return nil, fmt.Errorf("configure sandbox %s: nsproc: %w", path, err)
	}
	return reply.Skipped, nil
}

// Limit gives the default routes out of a link in the sandbox at path, Docker's SandboxKey, an MTU. Errors are as in
// Configure.
func (l *Launcher) Limit(ctx context.Context, path string, limit protocol.Limit) error {
	if err := limit.Check(); err != nil {
		return fmt.Errorf("limit routes in sandbox %s: %w", path, err)
	}
	output, err := l.request(ctx, path, protocol.Request{Limit: &limit}, nil)
	if err != nil {
		return fmt.Errorf("limit routes in sandbox %s: %w", path, err)
	}
	if _, err := protocol.DecodeReply(output); err != nil {
		return fmt.Errorf("limit routes in sandbox %s: nsproc: %w", path, err)
	}
	return nil
}

// request runs nsproc with req in the sandbox at path and returns what it writes. A reply that has an Error is an
// error. Socket, which may be nil, is nsproc's protocol.SocketsFD.
func (l *Launcher) request(ctx context.Context, path string, req protocol.Request, socket *os.File) ([]byte, error) {
	req.Version = protocol.Version
	if l.see != nil {
		return l.recorded(ctx, path, req, socket)
	}
	return l.execute(ctx, path, req, []*os.File{socket})
}

// execute runs nsproc with req in the sandbox at path and returns what it writes. Extra are its descriptors that follow
// protocol.NamespaceFD.
func (l *Launcher) execute(ctx context.Context, path string, req protocol.Request, extra []*os.File) ([]byte, error) {
	message, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if len(message) > protocol.MaxRequest {
		return nil, fmt.Errorf("a request of %d bytes, want at most %d", len(message), protocol.MaxRequest)
	}
	namespace, err := l.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	stdin, err := pipeWith(message)
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	start := time.Now()
	output, err := l.run(ctx, stdin, append([]*os.File{namespace}, extra...))
	l.ended(time.Since(start), err)
	return output, err
}

// pipeWith returns the reading end of a pipe that contains b, of at most protocol.MaxRequest bytes, and nothing more.
// nsproc finds its request there when it starts and never waits for it.
func pipeWith(b []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for nsproc: %w", err)
	}
	_, err = w.Write(b)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("write nsproc's request: %w", err), r.Close())
	}
	return r, nil
}

// run runs nsproc and returns its output, standard error included. nsproc gets files, of which some may be nil, as its
// descriptors from protocol.NamespaceFD on, no other descriptor of this process (all are close-on-exec), and nothing of
// its environment.
func (l *Launcher) run(ctx context.Context, stdin *os.File, files []*os.File) ([]byte, error) {
	output, err := newOutput()
	if err != nil {
		return nil, err
	}
	defer output.Close()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()

	cmd := exec.CommandContext(ctx, l.path)
	cmd.Env = []string{"GOMAXPROCS=1"} // it does nothing in parallel
	cmd.ExtraFiles = files             // the first is descriptor 3
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, output, output

	runErr := cmd.Run()
	written, err := readOutput(output)
	switch {
	case err != nil:
		return nil, err
	case runErr == nil:
		return written, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("nsproc: killed: %w%s", ctx.Err(), quoteEnd(written))
	}
	var exit *exec.ExitError
	if !errors.As(runErr, &exit) {
		return nil, fmt.Errorf("run nsproc: %w", runErr)
	}
	return nil, exitError(exit, written)
}

// exitError returns the error for an nsproc that has exited with another status than 0.
func exitError(exit *exec.ExitError, written []byte) error {
	switch code := exit.ExitCode(); {
	case code == protocol.Refused:
		if _, err := protocol.DecodeReply(written); err != nil {
			return fmt.Errorf("nsproc: %w", err)
		}
		return errors.New("nsproc: refused without a reason")
	case code > protocol.EntryFailed:
		return fmt.Errorf("nsproc could not enter the namespace "+
			"(does the plugin have CAP_SYS_ADMIN in its bounding set?): %w", syscall.Errno(code-protocol.EntryFailed))
	}
	return fmt.Errorf("nsproc: %w%s", exit, quoteEnd(written))
}

// maxQuote is how many bytes of a process's output are quoted.
const maxQuote = 400

// quoteEnd quotes the end of a process's output, for the end of an error message. Output that is no text, such as a
// part of a listing, would not help anybody.
func quoteEnd(output []byte) string {
	s := strings.TrimSpace(string(output[max(0, len(output)-maxQuote):]))
	switch {
	case s == "":
		return ""
	case strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }):
		return ", after output that is no text"
	}
	return fmt.Sprintf(", it said %q", s)
}
