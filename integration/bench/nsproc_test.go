// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// How long does it take to look into a namespace with nsproc? Compared with the same program without its own entry
// point, started by nsenter(1), and with a Go program that does nothing.
func BenchmarkNsproc(b *testing.B) {
	host, sandbox := nstest.New(b), nstest.New(b)
	nstest.Veth(b, host, sandbox, "host0", "10.32.0.1/22", "fd00::1/64")
	direct, through := waysIn(b)
	empty := build(b, "./testdata/empty")

	took := inTurns(300,
		func() float64 { return milliseconds(func() { list(b, direct, sandbox.File()) }) },
		func() float64 { return milliseconds(func() { list(b, through, sandbox.File()) }) },
		func() float64 {
			cmd := exec.Command(empty)
			cmd.Env = environment
			return milliseconds(func() {
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
			})
		})
	x := result{Question: "look into a namespace", Case: "nsproc", Unit: "ms"}
	x.Against, x.Target = "nsenter", atMost(0.65)
	results.add(b, compared(x, took[0], took[1]))
	x.Against, x.Target = "empty Go program", nil
	results.add(b, compared(x, took[0], took[2]))
}

// environment is the environment in which the plugin runs nsproc.
var environment = []string{"GOMAXPROCS=1"}

// waysIn returns two command lines that list the namespace which is open as descriptor protocol.NamespaceFD: nsproc
// itself, and nsenter with an nsproc that has Go's usual entry point.
func waysIn(b *testing.B) (direct, through []string) {
	b.Helper()
	plain := nstest.BuildNsproc(b, "-s -w")
	descriptor := fmt.Sprintf("--net=/proc/self/fd/%d", protocol.NamespaceFD)
	return []string{filepath.Join(lab.Binaries(b), "nsproc")}, []string{"nsenter", descriptor, plain}
}

// list lists the links and addresses of a namespace with one of the command lines of waysIn, as the plugin does: the
// request is in the pipe before the program starts, and its output goes to a file in memory.
func list(b *testing.B, way []string, namespace *os.File) {
	request, err := json.Marshal(protocol.Request{Version: protocol.Version, List: &protocol.List{}})
	if err != nil {
		b.Fatal(err)
	}
	stdin, w, err := os.Pipe()
	if err != nil {
		b.Error(err)
		return
	}
	defer stdin.Close()
	_, err = w.Write(request)
	if err := errors.Join(err, w.Close()); err != nil {
		b.Error(err)
		return
	}
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		b.Error(err)
		return
	}
	output := os.NewFile(uintptr(fd), "output")
	defer output.Close()
	cmd := exec.Command(way[0], way[1:]...)
	cmd.Env = environment
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, output, output
	cmd.ExtraFiles = []*os.File{namespace} // descriptor protocol.NamespaceFD
	err = cmd.Run()
	out, readErr := io.ReadAll(io.NewSectionReader(output, 0, protocol.MaxReply))
	if err := errors.Join(err, readErr); err != nil {
		b.Errorf("%v: %v: %s", way, err, out)
		return
	}
	if s, err := rtnl.Decode(out); err != nil || len(s.Links) < 2 {
		b.Errorf("%v: %v: reply %q", way, err, out)
	}
}

// build builds a Go program with the options of nsproc and returns its path.
func build(b *testing.B, folder string) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, folder)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", folder, err, out)
	}
	return program
}
