// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// How much memory does the plugin use, after it has made a number of endpoints on ten networks and has listed them
// live? Docker does not run here, so that the names from its API are not counted.
func BenchmarkMemory(b *testing.B) {
	a := startAlone(b)
	client := unixClient(a.Path(lab.APISocket))
	for range 10 {
		a.addNetwork(b)
	}
	for _, n := range []int{0, 100, 1000} {
		a.grow(b, n)
		for _, query := range []string{"", "?live=kernel", "?live=nsproc"} {
			if err := get(client, "http://weave"+api.PathEndpoints+query, nil); err != nil {
				b.Fatal(err)
			}
		}
		m := memoryOf(b, a.plugin.PID)
		x := result{Question: "memory of the plugin, resident, without Docker's API",
			Case: fmt.Sprintf("endpoints: %d", n), Unit: "MB", Value: m["Rss"]}
		if n == 1000 {
			x.Target = atMost(40)
		}
		results.add(b, x)
		x.Question, x.Value, x.Target = "of that not backed by a file", m["Anonymous"], nil
		results.add(b, x)
	}
}

// memoryOf returns a process's use of memory in MB, by the names of smaps_rollup in proc(5).
func memoryOf(b *testing.B, pid int) map[string]float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	m := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if kB, found := strings.CutSuffix(strings.TrimSpace(value), " kB"); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(kB), 64)
			if err != nil {
				b.Fatalf("%s: %v", line, err)
			}
			m[name] = n * 1024 / 1e6
		}
	}
	return m
}
