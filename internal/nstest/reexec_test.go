// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReexecRunsInNewNamespaces(t *testing.T) {
	if Reexec(t) {
		return
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == "lo" && l.Flags&net.FlagUp == 0 {
			t.Error("lo is down")
		}
		if l.Name == "eth0" {
			t.Error("a link of the machine's is here")
		}
	}
	if _, err := os.Stat("/sys/class/net/eth0"); err == nil {
		t.Error("/sys shows the machine's links")
	}
	entries, err := os.ReadDir("/run")
	if err != nil || len(entries) != 0 {
		t.Errorf("/run holds %v, %v; want it empty", entries, err)
	}

	// Other threads and other processes are in the same namespace.
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	there := make(chan string)
	go func() {
		out, _ := exec.Command("readlink", "/proc/self/ns/net").Output()
		there <- strings.TrimSpace(string(out))
	}()
	if diff := cmp.Diff(here, <-there); diff != "" {
		t.Errorf("namespace of a process started by a goroutine (-want +got):\n%s", diff)
	}
}

func TestReexecInSubtest(t *testing.T) {
	t.Run("with (odd) [name] | a^b", func(t *testing.T) {
		if Reexec(t) {
			return
		}
		if os.Getenv(reexecEnv) != t.Name() {
			t.Error("not in the child")
		}
	})
}

func TestOutcomeOf(t *testing.T) {
	out := "=== RUN   TestA\n=== RUN   TestA/b\n--- PASS: TestA (0.00s)\n    --- SKIP: TestA/b (0.00s)\n" +
		"--- FAIL: TestAB (1.00s)\nFAIL\n"
	for name, want := range map[string]string{"TestA": "PASS", "TestA/b": "SKIP", "TestAB": "FAIL", "TestC": ""} {
		if got := outcomeOf(name, out); got != want {
			t.Errorf("outcomeOf(%q) = %q, want %q", name, got, want)
		}
	}
}
