// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/weaveplugin/weave/internal/nstest"
)

// deadline is how long a test waits for something. It is shorter than fullInterval, so that a Run that misses events
// fails.
const deadline = 15 * time.Second

// eachBackend runs a test once for each back end, in namespaces of its own.
func eachBackend(t *testing.T, f func(t *testing.T, backend string)) {
	for _, backend := range []string{nft, legacy} {
		t.Run(backend, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			f(t, backend)
		})
	}
}

// networks returns a set for Set: network n1 on bridge wv-1, and so on.
func networks(numbers ...int) map[string]string {
	wanted := map[string]string{}
	for _, n := range numbers {
		wanted[fmt.Sprintf("wv-%d", n)] = fmt.Sprintf("n%d", n)
	}
	return wanted
}

// run runs a command in the namespace of this process, and returns its output.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stderr = io.Discard
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return string(out)
}

// families returns the IPv4 and the IPv6 command of a back end.
func families(backend string) []string {
	return []string{"iptables-" + backend, "ip6tables-" + backend}
}

// addDockerChains makes the chains that Docker (28) makes.
func addDockerChains(t *testing.T, backend string) {
	t.Helper()
	for _, cmd := range families(backend) {
		run(t, `*filter
:FORWARD DROP
:DOCKER-USER -
:DOCKER-FORWARD -
-A DOCKER-USER -j RETURN
-I FORWARD -j DOCKER-FORWARD
-I FORWARD -j DOCKER-USER
COMMIT
`, cmd+"-restore", "--noflush")
	}
}

// removeDockerChains removes them again, as a reboot into the other back end does.
func removeDockerChains(t *testing.T, backend string) {
	t.Helper()
	for _, cmd := range families(backend) {
		run(t, `*filter
-D FORWARD -j DOCKER-FORWARD
-D FORWARD -j DOCKER-USER
-F DOCKER-USER
-X DOCKER-USER
-X DOCKER-FORWARD
COMMIT
`, cmd+"-restore", "--noflush")
	}
}

// forward returns the rules of FORWARD.
func forward(t *testing.T, cmd string) []string {
	t.Helper()
	return lines(run(t, "", cmd, "-S", "FORWARD"))[1:]
}

// appendRules appends rules, a line each, to each family of a back end.
func appendRules(t *testing.T, backend string, rules ...string) {
	t.Helper()
	for _, cmd := range families(backend) {
		run(t, "*filter\n"+strings.Join(rules, "")+"COMMIT\n", cmd+"-restore", "--noflush")
	}
}

// allRules returns the rules of FORWARD in both back ends, by command.
func allRules(t *testing.T) map[string][]string {
	t.Helper()
	rules := map[string][]string{}
	for _, cmd := range slices.Concat(families(nft), families(legacy)) {
		rules[cmd] = forward(t, cmd)
	}
	return rules
}

// assertRules fails the test unless each family of a back end has exactly these rules of state "aa", by bridge.
func assertRules(t *testing.T, backend string, bridges ...string) {
	t.Helper()
	for _, cmd := range families(backend) {
		if got := ruleBridges(forward(t, cmd)); !slices.Equal(got, bridges) {
			t.Errorf("%s has rules for %q, want %q", cmd, got, bridges)
		}
	}
}

// ruleBridges returns the bridges that a chain has rules of state "aa" for, sorted, with repetitions.
func ruleBridges(chain []string) []string {
	var bridges []string
	for _, r := range chain {
		if args := splitRule(r); (owner{stateID: "aa"}).owns(args) {
			bridges = append(bridges, option(args, "-i"))
		}
	}
	slices.Sort(bridges)
	return bridges
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", deadline, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// newFirewall returns a Firewall of state "aa", and a hook that records what it logs.
func newFirewall(t *testing.T) (*Firewall, *test.Hook) {
	t.Helper()
	log, hook := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	f, err := New(Options{StateID: "aa", Log: logrus.NewEntry(log)})
	if err != nil {
		t.Fatal(err)
	}
	return f, hook
}

// start starts Run and stops it when the test ends. The test fails if Run returns an error or doesn't end.
func start(t *testing.T, f *Firewall) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(deadline):
			t.Error("Run does not end with its context")
		}
	})
}

// logged returns how many entries were logged at a level.
func logged(hook *test.Hook, level logrus.Level) int {
	n := 0
	for _, e := range hook.AllEntries() {
		if e.Level == level {
			n++
		}
	}
	return n
}

func warnings(hook *test.Hook) int { return logged(hook, logrus.WarnLevel) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
