// SPDX-License-Identifier: Apache-2.0

package names

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/nstest"
)

// BenchmarkSandboxes answers what a sandbox costs: descriptors, memory of this process, and the time to open one.
func BenchmarkSandboxes(b *testing.B) {
	const count = 500
	on := []Attachment{{Network: "app", Name: "app"}}
	var paths []string
	for range count {
		paths = append(paths, nstest.New(b).Path())
	}
	for b.Loop() {
		wanted := map[string][]Attachment{}
		for _, path := range paths {
			wanted[path] = on
		}
		debug.FreeOSMemory()
		memory, files := resident(b), descriptors(b)
		s, stop := newServer(b)
		started := time.Now()
		s.SetSandboxes(wanted)
		eventually(b, "all are open", func() bool { return len(relays(s)) == count })
		opened := time.Since(started)
		debug.FreeOSMemory()
		b.ReportMetric(float64(resident(b)-memory)/count, "kB/sandbox")
		b.ReportMetric(float64(descriptors(b)-files)/count, "descriptors/sandbox")
		b.ReportMetric(float64(opened.Microseconds())/1000/count, "ms/open")
		stop()
	}
}

// resident returns how much memory this process has, in kB.
func resident(b *testing.B) (kB int) {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		b.Fatal(err)
	}
	return kB
}

func descriptors(b *testing.B) int {
	b.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.Fatal(err)
	}
	return len(files)
}
