// Package launch runs nsproc, the process that works inside a container's network namespace. The package itself runs in
// the host's namespace and never leaves it.
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

	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/rtnl"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

// Why a sandbox can't be opened.
var (
	ErrNoSandbox  = sandbox.ErrGone       // nothing is at its path: the container has ended
	ErrNotVisible = sandbox.ErrNotVisible // its mount can't be seen from here
)

// DefaultTimeout is how long one nsproc may take unless Options say otherwise. nsproc takes 2 ms; the rest is for a
// machine under load.
const DefaultTimeout = 5 * time.Second

// Options are what a Launcher works with.
type Options struct {
	Path    string        // of the nsproc binary, absolute; required
	Root    sandbox.Root  // where the host's directories are mounted
	Timeout time.Duration // for one request; zero: DefaultTimeout
}

// Launcher runs nsproc, one process for each request. Several goroutines may use it at once.
type Launcher struct {
	path    string
	root    sandbox.Root
	timeout time.Duration
}

// New checks the options.
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
	return &Launcher{path: o.Path, root: o.Root, timeout: o.Timeout}, nil
}

// Sandboxes is the root under which the Launcher opens sandboxes.
func (l *Launcher) Sandboxes() sandbox.Root { return l.root }

// List lists what is asked for of the sandbox at path, Docker's SandboxKey. Errors wrap ErrNoSandbox, ErrNotVisible,
// protocol.ErrVersion or a *protocol.Error where these are the reason.
func (l *Launcher) List(ctx context.Context, path string, what protocol.List) (*netstate.Snapshot, error) {
	dump, err := l.ask(ctx, path, protocol.Request{List: &what})
	if err != nil {
		return nil, fmt.Errorf("list sandbox %s: %w", path, err)
	}
	snapshot, err := rtnl.Decode(dump)
	if err != nil {
		return nil, fmt.Errorf("list sandbox %s: decode nsproc's reply: %w", path, err)
	}
	return snapshot, nil
}

// Configure configures a container end in the sandbox at path, Docker's SandboxKey. skipped tells what could not be set
// there and why, harmless without. Errors are as in List; the veth is not there if the error is ENODEV.
func (l *Launcher) Configure(ctx context.Context, path string, c protocol.Configure) (skipped []string, err error) {
	c.Proc = filepath.Join("/", string(l.root), "proc") // in a managed plugin /proc/sys is read-only, the one below root is not
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("configure sandbox %s: %w", path, err)
	}
	output, err := l.ask(ctx, path, protocol.Request{Configure: &c})
	if err != nil {
		return nil, fmt.Errorf("configure sandbox %s: %w", path, err)
	}
	reply, err := protocol.DecodeReply(output)
	if err != nil {
		return nil, fmt.Errorf("configure sandbox %s: nsproc: %w", path, err)
	}
	return reply.Skipped, nil
}

// ask runs nsproc for one request in the sandbox at path and returns its reply as it came, unless it refuses.
func (l *Launcher) ask(ctx context.Context, path string, req protocol.Request) ([]byte, error) {
	req.Version = protocol.Version
	request, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if len(request) > protocol.MaxRequest {
		return nil, fmt.Errorf("a request of %d bytes, want at most %d", len(request), protocol.MaxRequest)
	}
	namespace, err := l.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	stdin, err := filled(request)
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	return l.run(ctx, namespace, stdin)
}

// filled is a pipe that holds b, of at most protocol.MaxRequest bytes, and then ends. So nsproc finds its request there
// when it starts, and waits for nobody to write it.
func filled(b []byte) (*os.File, error) {
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

// run executes nsproc with namespace as descriptor NamespaceFD and returns its output. It gets no other descriptor of
// this process (all are close-on-exec) and nothing of its environment. What it writes to its standard error when it can't
// reply comes the same way.
func (l *Launcher) run(ctx context.Context, namespace, stdin *os.File) ([]byte, error) {
	output, err := newOutput()
	if err != nil {
		return nil, err
	}
	defer output.Close()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()

	cmd := exec.CommandContext(ctx, l.path)
	cmd.Env = []string{"GOMAXPROCS=1"}     // it does one thing after the other
	cmd.ExtraFiles = []*os.File{namespace} // the first is descriptor 3
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, output, output

	ended := cmd.Run()
	written, err := readOutput(output)
	switch {
	case err != nil:
		return nil, err
	case ended == nil:
		return written, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("nsproc: killed: %w%s", ctx.Err(), said(written))
	}
	var exit *exec.ExitError
	if !errors.As(ended, &exit) {
		return nil, fmt.Errorf("run nsproc: %w", ended)
	}
	switch code := exit.ExitCode(); {
	case code == protocol.Refused:
		return nil, fmt.Errorf("nsproc: %w", refusal(written))
	case code > protocol.EntryFailed:
		errno := syscall.Errno(code - protocol.EntryFailed)
		return nil, fmt.Errorf("nsproc could not enter the namespace (does the plugin have CAP_SYS_ADMIN in its bounding set?): %w", errno)
	}
	return nil, fmt.Errorf("nsproc: %w%s", exit, said(written))
}

// refusal is the error that an nsproc wrote which exited with protocol.Refused: a *protocol.Error, if it can be decoded.
func refusal(b []byte) error {
	if _, err := protocol.DecodeReply(b); err != nil {
		return err
	}
	return errors.New("refused without a reason")
}

// said is the end of what a process wrote, for the end of an error.
func said(output []byte) string {
	output = output[max(0, len(output)-4<<10):]
	if s := strings.TrimSpace(string(output)); s != "" {
		return fmt.Sprintf(", it said %q", s)
	}
	return ""
}
