// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// TestFlushedRulesComeBack: when somebody has removed the rules that a way out needs, the way is open again within two
// seconds, and other networks closed. It does not run in parallel with other tests, since it measures that time.
func TestFlushedRulesComeBack(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			h, p := startFirewalled(t, backend)
			gatewayNetwork(t, h, "app", 17)
			gatewayNetwork(t, h, "other", 18)
			h.Run(t, "--network", "app", "--name", "one")
			h.Run(t, "--network", "other", "--name", "two")
			one, two := sandboxOf(t, h, "one"), attachmentOf(t, h, "two", "other")
			ping(t, h, "one", outside.Addr().String())
			answerAll(t, sandboxOf(t, h, "two"))
			tables := strings.Fields(h.Exec(t, "sh", "-c", "nft list tables | awk '/weave/ {print $2 \":\" $3}'"))
			flushes := []string{
				"iptables -w -F FORWARD", "iptables -w -t nat -F", "ip6tables -w -F FORWARD", "ip6tables -w -t nat -F",
			}
			for _, table := range tables {
				flushes = append(flushes, "nft delete table "+strings.Replace(table, ":", " ", 1))
			}
			if len(tables) == 0 {
				t.Error("weave has no table of its own")
			}
			for _, flush := range flushes {
				flushAndAwait(t, h, p, flush)
				ping(t, h, "one", outside.Addr().String())
				reachesNone(t, "another network after "+flush, one, two.IPAddress, two.GlobalIPv6Address)
			}
		})
	}
}

// flushAndAwait runs a command that removes rules, and fails t unless those of weave's are back two seconds later. The
// time is from before the command to the end of the first of many looks, without a pause between them, that finds all
// rules: not less than what it really takes, and at most one look more. What weave's threads have waited for a
// processor is not held against it: that is the machine's other work, and next to nothing where there is none.
func flushAndAwait(t *testing.T, h *lab.Host, p *lab.Plugin, flush string) {
	t.Helper()
	rules := func() string {
		tables := strings.Split(h.Exec(t, "nft", "list", "tables"), "\n")
		slices.Sort(tables) // one that is made again is the last
		all := append(tables, h.Exec(t, "iptables-save"), h.Exec(t, "ip6tables-save"))
		lines := strings.Split(strings.Join(all, "\n"), "\n")
		return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
			return !strings.Contains(line, "weave")
		}), "\n")
	}
	const promised, patience = 2 * time.Second, time.Minute
	before, waited, start := rules(), processorWaits(t, p.PID), time.Now()
	h.Exec(t, "sh", "-c", flush)
	took := time.Duration(0)
	for now := ""; now != before; took = time.Since(start) {
		if took > patience {
			t.Fatalf("%s: after %v the rules are\n%s\nwant\n%s", flush, took, now, before)
		}
		now = rules()
	}
	waited = processorWaits(t, p.PID) - waited
	t.Logf("%s: the rules are back after %v, for %v of which weave waited for a processor", flush,
		took.Round(time.Millisecond), waited.Round(time.Millisecond))
	if took > promised+waited {
		t.Errorf("%s: the rules are back after %v, want %v", flush, took, promised)
	}
}

// processorWaits returns for how long the threads of a process have waited for a processor, all together. See
// Documentation/scheduler/sched-stats.rst of the kernel.
func processorWaits(t *testing.T, pid int) time.Duration {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all time.Duration
	for _, thread := range threads {
		var ran, waited time.Duration // in ns
		b, err := os.ReadFile(thread)
		if err != nil {
			continue // the thread has ended
		}
		if _, err := fmt.Sscan(string(b), &ran, &waited); err != nil {
			t.Fatalf("%s: %q: %v", thread, b, err)
		}
		all += waited
	}
	return all
}
