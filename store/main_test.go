// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"os"
	"os/exec"
	"testing"
)

// childEnv names, in a child process that a test starts, what it is to do.
const childEnv = "WEAVE_TEST_CHILD"

var children = map[string]func(args []string){
	"write": writeUntilKilled,
	"alter": alterBytes,
	"loop":  loop,
}

func TestMain(m *testing.M) {
	if run, ok := children[os.Getenv(childEnv)]; ok {
		run(os.Args[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is the command that runs one of children with the given arguments.
func child(t *testing.T, what string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	// The race detector would have each child wait a second when it ends.
	cmd.Env = append(os.Environ(), childEnv+"="+what, "GOTRACEBACK=none", "GORACE=atexit_sleep_ms=0")
	return cmd
}
