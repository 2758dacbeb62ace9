// SPDX-License-Identifier: Apache-2.0

// Package child has a program execute itself once more, for work that needs rights which the program has given up, or
// limits of its own.
//
// The child runs in the namespaces of the program that starts it.
package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Command returns the command that executes this program as the child of that name. As root it has all capabilities of
// the bounding set. It gets nothing else of this process, not even the environment.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = append([]string{name}, args...)
	cmd.Env = []string{"GOTRACEBACK=none"} // the first line of a crash is enough
	return cmd
}

// Run makes this process the child of that name if it was started as such: it runs the function, which may exit by
// itself, and exits, with status 1 and the error on standard error if there is one. It is for a package's init, so that
// every program with the package works as the child, test binaries included, instead of running its own main.
func Run(name string, run func() error) {
	if len(os.Args) == 0 || os.Args[0] != name {
		return
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%.1000s\n", err)
		unix.Exit(1)
	}
	unix.Exit(0) // at once; in a test binary os.Exit would leave the code to the race detector
}
