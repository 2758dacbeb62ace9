// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/internal/browsertest"
)

// How much of a core does the plugin take while nothing happens, without a page and with one open?
func BenchmarkPage(b *testing.B) {
	const address = "127.0.0.1:9784"
	// After a start weave looks at what is new, and a page asks for names, which there are none of without Docker.
	const settled = 15 * time.Second
	const measured = 20 * time.Second
	a := startAloneWith(b, lab.Options{}, "--http-address="+address)
	a.addNetwork(b)
	a.grow(b, 100)
	time.Sleep(settled)
	x := result{Unit: "% of a core", Case: "endpoints: 100"}
	x.Question = "processor time of the plugin while nothing happens"
	x.Value = busy(b, a.plugin.PID, measured)
	results.add(b, x)
	before := memoryOf(b, a.plugin.PID)["Rss"]

	tab := browsertest.Open(b, "http://"+a.Forward(b, address))
	tab.Await(`document.querySelectorAll('#table tbody tr').length === 100`)
	time.Sleep(settled)
	x.Question, x.Value, x.Target = "the same with a page open", busy(b, a.plugin.PID, measured), atMost(1)
	results.add(b, x)
	x = result{Question: "memory of the plugin, what a page adds", Case: "endpoints: 100", Unit: "MB"}
	x.Value = memoryOf(b, a.plugin.PID)["Rss"] - before
	results.add(b, x)
}

// busy returns how much of a core a process takes for a time, in percent.
func busy(b *testing.B, pid int, d time.Duration) float64 {
	before := processorTime(b, pid)
	time.Sleep(d)
	return 100 * float64(processorTime(b, pid)-before) / float64(d)
}

// processorTime returns how long a process's threads have run. Go's end never, so none is missing.
func processorTime(b *testing.B, pid int) (sum time.Duration) {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		b.Fatalf("threads of process %d: %v", pid, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		sum += time.Duration(n)
	}
	return sum
}
