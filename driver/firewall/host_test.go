// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
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

// iptablesBackends are the suffixes of iptables's commands.
var iptablesBackends = []string{"nft", "legacy"}

// eachBackend runs a test once for each back end of iptables, in namespaces of its own.
func eachBackend(t *testing.T, f func(t *testing.T, backend string)) {
	for _, backend := range iptablesBackends {
		t.Run(backend, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			f(t, backend)
		})
	}
}

// own returns weave's own bridges of these numbers: network n1 on bridge wv-1, and so on.
func own(numbers ...int) []Bridge {
	var bridges []Bridge
	for _, n := range numbers {
		bridges = append(bridges, Bridge{Name: fmt.Sprintf("wv-%d", n), NetworkID: fmt.Sprintf("n%d", n)})
	}
	return bridges
}

// named returns bridges of the user's naming: network br1 on br1, and so on.
func named(names ...string) []Bridge {
	var bridges []Bridge
	for _, n := range names {
		bridges = append(bridges, Bridge{Name: n, NetworkID: n, Foreign: true})
	}
	return bridges
}

// run runs a command in the namespace of this process, and returns its output.
func run(t testing.TB, stdin, name string, args ...string) string {
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

// shell runs commands, one a line, in the namespace of this process.
func shell(t testing.TB, script string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "sh", "-exc", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// commands returns the IPv4 and the IPv6 command of a back end of iptables.
func commands(backend string) []string {
	return []string{"iptables-" + backend, "ip6tables-" + backend}
}

// addDockerChains makes the chains that Docker (28) makes.
func addDockerChains(t testing.TB, backend string) {
	t.Helper()
	for _, cmd := range commands(backend) {
		run(t, `*raw
:PREROUTING ACCEPT
COMMIT
*filter
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

// forward returns the rules of FORWARD that iptables lists.
func forward(t testing.TB, cmd string) []string {
	t.Helper()
	return chainRules(t, cmd, "filter", "FORWARD")
}

func chainRules(t testing.TB, cmd, table, name string) []string {
	t.Helper()
	listed := strings.Split(strings.TrimSpace(run(t, "", cmd, "-t", table, "-S", name)), "\n")
	var rules []string
	for _, line := range listed {
		if rule, ok := strings.CutPrefix(line, "-A "+name+" "); ok {
			rules = append(rules, rule)
		}
	}
	return rules
}

// ours returns those of rules that carry weave's comment.
func ours(rules []string) []string {
	var found []string
	for _, r := range rules {
		if _, _, ok := origin(splitRule(r)); ok {
			found = append(found, r)
		}
	}
	return found
}

// tables returns the names of all tables of nftables, "ip filter" and so on.
func tables(t testing.TB) string { return run(t, "", "nft", "list", "tables") }

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
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
func newFirewall(t testing.TB) (*Firewall, *test.Hook) {
	t.Helper()
	return newFirewallWith(t, Options{})
}

// newFirewallWith is newFirewall with other options.
func newFirewallWith(t testing.TB, o Options) (*Firewall, *test.Hook) {
	t.Helper()
	log, hook := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	o.Log = logrus.NewEntry(log)
	if o.StateID == "" {
		o.StateID = "aa"
	}
	if o.Mode == "" {
		o.Mode = Auto
	}
	f, err := New(o)
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// filterBridges makes br_netfilter hand frames to the tables of this namespace.
func filterBridges(t testing.TB) {
	t.Helper()
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		if err := os.WriteFile("/proc/sys/net/bridge/"+name, []byte("1"), 0); err != nil {
			t.Skipf("needs br_netfilter: %v", err)
		}
	}
}
