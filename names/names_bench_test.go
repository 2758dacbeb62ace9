// SPDX-License-Identifier: Apache-2.0

package names

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
)

// BenchmarkSandboxes answers what a sandbox costs: descriptors, memory of this process, the time to open one, and the
// time to tell one that weave is there.
func BenchmarkSandboxes(b *testing.B) {
	const count = 500
	l, err := launch.New(launch.Options{Path: nstest.Nsproc(b), Timeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	log, _ := logrustest.NewNullLogger()
	on := []Attachment{{Network: "app", Name: "app"}}
	var paths []string
	for range count {
		paths = append(paths, nstest.New(b).Path())
	}
	for b.Loop() {
		s, err := New(Options{Launcher: l, Log: logrus.NewEntry(log)})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.openPoll(); err != nil {
			b.Fatal(err)
		}
		debug.FreeOSMemory()
		memory, files := resident(b), descriptors(b)
		started := time.Now()
		for _, path := range paths {
			s.wanted[path] = on
			if err := s.openRelay(b.Context(), path); err != nil {
				b.Fatal(err)
			}
		}
		opened := time.Since(started)
		debug.FreeOSMemory()
		b.ReportMetric(float64(resident(b)-memory)/count, "kB/sandbox")
		b.ReportMetric(float64(descriptors(b)-files)/count, "descriptors/sandbox")
		b.ReportMetric(float64(opened.Microseconds())/1000/count, "ms/open")
		started = time.Now()
		s.refresh()
		b.ReportMetric(float64(time.Since(started).Microseconds())/count, "µs/refresh")
		s.dropAll()
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
