// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// How long does a listing take at the API, from the request to the last byte of the reply? As tracked, and live from
// both sources. The live listing by nsproc is compared with just running nsenter as many times, as many at the same
// time.
func BenchmarkListing(b *testing.B) {
	direct, through := waysIn(b)
	a := startAlone(b)
	a.addNetwork(b)
	client := unixClient(a.Path(lab.APISocket))
	get := func(b *testing.B, query string) func() float64 {
		return func() float64 {
			return milliseconds(func() {
				if err := get(client, "http://weave"+api.PathEndpoints+query, nil); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
	for _, n := range []int{1, 10, 100} {
		a.grow(b, n)
		sandboxes := a.sandboxes(b)
		bare := func(way []string) func() float64 {
			return func() float64 { return milliseconds(func() { listAll(b, way, sandboxes) }) }
		}
		took := inTurns(30, get(b, ""), get(b, "?live=kernel"), get(b, "?live=nsproc"), bare(through), bare(direct))

		x := result{Unit: "ms", Case: fmt.Sprintf("endpoints: %d", n)}
		x.Question, x.Value = "listing, tracked", median(took[0])
		if n == 100 {
			x.Target = atMost(3)
		}
		results.add(b, x)
		x.Question, x.Value = "listing, live by the kernel", median(took[1])
		if n == 100 {
			x.Target = atMost(8)
		}
		results.add(b, x)
		x.Question, x.Against, x.Target = "listing, live by nsproc", "nsenter", nil
		if n == 100 {
			x.Target = atMost(0.65)
		}
		results.add(b, compared(x, took[2], took[3]))
		x.Question = "the same, without the API"
		results.add(b, compared(x, took[4], took[3]))
	}
}

// sandboxes opens the network namespaces of all endpoints, until the end of b.
func (a *alone) sandboxes(b *testing.B) []*os.File {
	b.Helper()
	var files []*os.File
	for i := range a.made {
		f, err := os.Open(a.Path(fmt.Sprintf("/run/netns/c%d", i)))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

// listAll lists all namespaces with one of the command lines of waysIn, as many at the same time as the plugin does.
func listAll(b *testing.B, way []string, namespaces []*os.File) {
	queue := make(chan *os.File)
	var group sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		group.Go(func() {
			for f := range queue {
				list(b, way, f)
			}
		})
	}
	for _, f := range namespaces {
		queue <- f
	}
	close(queue)
	group.Wait()
}
