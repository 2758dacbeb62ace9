// SPDX-License-Identifier: Apache-2.0

package netnsid

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// sandboxes makes n namespaces with an endpoint each, as containers have.
func sandboxes(tb testing.TB, n int) []string {
	tb.Helper()
	host := nstest.New(tb)
	paths := make([]string, n)
	for i := range paths {
		ns := nstest.New(tb)
		nstest.Veth(tb, host, ns, fmt.Sprintf("host%d", i),
			fmt.Sprintf("10.32.0.%d/22", i+1), fmt.Sprintf("fd00::%x/64", i+1))
		paths[i] = ns.Path()
	}
	return paths
}

// listAll lists each of the paths, several at a time.
func listAll(b *testing.B, paths []string, several int, list func(ctx context.Context, path string) error) {
	for b.Loop() {
		queue := make(chan string)
		var group sync.WaitGroup
		for range several {
			group.Go(func() {
				for p := range queue {
					if err := list(b.Context(), p); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for _, p := range paths {
			queue <- p
		}
		close(queue)
		group.Wait()
	}
}

// Links and addresses of 100 namespaces, listed by the kernel from outside.
func BenchmarkKernel100(b *testing.B) {
	paths := sandboxes(b, 100)
	q, err := New("")
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	list := func(ctx context.Context, path string) error {
		_, err := q.List(ctx, path)
		return err
	}
	for _, several := range []int{1, 4} {
		b.Run(fmt.Sprintf("several=%d", several), func(b *testing.B) { listAll(b, paths, several, list) })
	}
}

// The same, listed by nsproc.
func BenchmarkNsproc100(b *testing.B) {
	paths := sandboxes(b, 100)
	l, err := launch.New(launch.Options{Path: nstest.Nsproc(b)})
	if err != nil {
		b.Fatal(err)
	}
	list := func(ctx context.Context, path string) error {
		_, err := l.List(ctx, path, protocol.List{})
		return err
	}
	for _, several := range []int{1, 4} {
		b.Run(fmt.Sprintf("several=%d", several), func(b *testing.B) { listAll(b, paths, several, list) })
	}
}

// For comparison, the same listed as JSON by nsenter(1) and ip(8).
func BenchmarkNsenter100(b *testing.B) {
	for _, name := range []string{"nsenter", "ip"} {
		if _, err := exec.LookPath(name); err != nil {
			b.Skip(err)
		}
	}
	paths := sandboxes(b, 100)
	list := func(ctx context.Context, path string) error {
		return exec.CommandContext(ctx, "nsenter", "--net="+path, "ip", "-json", "address").Run()
	}
	for _, several := range []int{1, 4} {
		b.Run(fmt.Sprintf("several=%d", several), func(b *testing.B) { listAll(b, paths, several, list) })
	}
}
