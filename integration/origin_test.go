// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/internal/nstest"
)

// Weave Net's listing failed now and then, because a thread of its daemon was still in a container's namespace when
// it looked for the host's bridge. This test lists many containers many times, while other containers and links of
// the host come and go, which makes the kernel interrupt dumps of links. No listing may fail, lack an endpoint, or
// show one or a drift that does not exist, and no thread of the plugin may ever be in another namespace than the
// host's.
func TestListingsAmidChurn(t *testing.T) {
	const (
		containers = 100
		listings   = 200
		starters   = 4   // containers that are started at the same time
		churners   = 2   // goroutines that start and remove other containers
		idle       = 100 // further veth pairs on the host: with more links a dump takes longer
		linkers    = 1   // goroutines that add and delete links on the host
	)
	h, p := startHost(t, "origin")
	networks := []string{"net0", "net1", "net2", "net3"}
	for _, n := range append(networks, "churn") {
		weaveNetwork(t, h, n, "--internal", "--ipam-driver", "weave")
	}
	inParallel(t, starters, containers, func(i int) error {
		_, err := h.DockerErr("run", "-d", "--network", networks[i%len(networks)], lab.Image)
		return err
	})
	stable := map[string]api.Endpoint{}
	for _, e := range awaitEndpoints(t, h, containers) {
		stable[e.ID] = e
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var others sync.WaitGroup
	var samples, turns atomic.Int64
	var churnErrs, strayErr errorOnce
	others.Go(func() {
		pace := time.NewTicker(2 * time.Millisecond) // leaves processor time to the plugin
		defer pace.Stop()
		for ctx.Err() == nil {
			strayErr.set(threadsInNamespaceOf(p.PID, h.PID()))
			samples.Add(1)
			<-pace.C
		}
	})
	var links atomic.Int64
	const addLinks = "seq $0 | sed 's/.*/link add idle& type veth peer name idlep&/' | ip -batch -"
	h.Exec(t, "sh", "-c", addLinks, strconv.Itoa(idle))
	for i := range linkers {
		others.Go(func() {
			for ctx.Err() == nil {
				_, err := h.ExecErr("sh", "-c", linkChurn, "sh", fmt.Sprint("link", i))
				churnErrs.set(err)
				links.Add(1)
			}
		})
	}
	for i := range churners {
		others.Go(func() {
			for ctx.Err() == nil {
				name := fmt.Sprintf("churn%d", i)
				_, err := h.DockerErr("run", "-d", "--network", "churn", "--name", name, lab.Image)
				churnErrs.set(err)
				_, err = h.DockerErr("rm", "-f", name)
				churnErrs.set(err)
				turns.Add(1)
			}
		})
	}

	churn := h.Docker(t, "network", "inspect", "-f", "{{.Id}}", "churn")
	client := api.NewClient(h.Path(lab.APISocket))
	sources := []api.Source{"", api.Kernel, api.Nsproc}
	for i := range listings {
		source := sources[i%len(sources)]
		found, err := client.Endpoints(t.Context(), api.Query{Live: source})
		if err != nil {
			t.Fatalf("listing %d (%s): %v", i, source, err)
		}
		if err := compareListing(stable, found, churn, 2*churners); err != nil {
			t.Fatalf("listing %d (%s): %v", i, source, err)
		}
	}
	// On a fast machine the listings end before enough has come and gone.
	lab.Eventually(t, time.Minute, "churn", func() error {
		if n, l := turns.Load(), links.Load(); n < 10 || l < 10 {
			return fmt.Errorf("%d containers and %d times twenty links have come and gone", n, l)
		}
		return nil
	})
	stop()
	others.Wait()
	if err := errors.Join(strayErr.err, churnErrs.err); err != nil {
		t.Error(err)
	}
	t.Logf("%d listings of %d endpoints; %d other containers, %d times twenty links; threads were checked %d times",
		listings, containers, turns.Load(), links.Load(), samples.Load())
	ids := strings.Fields(h.Docker(t, "ps", "-aq"))
	inParallel(t, starters, len(ids), func(i int) error {
		_, err := h.DockerErr("rm", "-f", ids[i])
		return err
	})
	awaitNoEndpoints(t, h)
}

// linkChurn is a script that adds links whose names start with $1 and deletes them: a veth pair and a bridge, ten
// times.
const linkChurn = `for i in 1 2 3 4 5 6 7 8 9 10; do
	echo link add $1a type veth peer name $1b
	echo link add $1c type bridge
	echo link del $1a
	echo link del $1c
done | ip -batch -`

// compareListing returns an error if a listing does not contain exactly the stable endpoints, unchanged, and at most
// so many others, on the network with the id churn.
func compareListing(stable map[string]api.Endpoint, found []api.Endpoint, churn string, others int) error {
	seen := map[string]bool{}
	for _, e := range found {
		was, known := stable[e.ID]
		switch {
		case seen[e.ID]:
			return fmt.Errorf("endpoint %s is listed twice", e.ID)
		case !known && e.NetworkID != churn:
			return fmt.Errorf("endpoint %s does not exist: %+v", e.ID, e)
		case known && (e.MAC != was.MAC || !slices.Equal(e.Addresses, was.Addresses) ||
			e.Sandbox != was.Sandbox || e.State != api.Up):
			return fmt.Errorf("endpoint %s is listed as %+v, was %+v", e.ID, e, was)
		case known && (len(e.Drift) > 0 || e.Live != nil && e.Live.Error != ""):
			return fmt.Errorf("endpoint %s has drifted: %v, %+v", e.ID, e.Drift, e.Live)
		}
		seen[e.ID] = true
	}
	for id := range stable {
		if !seen[id] {
			return fmt.Errorf("endpoint %s is missing", id)
		}
	}
	if n := len(found) - len(stable); n > others {
		return fmt.Errorf("%d endpoints on the network churn, want at most %d", n, others)
	}
	return nil
}

// threadsInNamespaceOf returns an error if a thread of process pid is in another network namespace than process other.
func threadsInNamespaceOf(pid, other int) error {
	home, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", other))
	if err != nil {
		return err
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/net", pid))
	if err != nil {
		return err
	}
	for _, name := range threads {
		if ns, err := os.Readlink(name); err == nil && ns != home { // a thread that has ended has no link
			return fmt.Errorf("thread %s is in %s, not in %s", name, ns, home)
		}
	}
	return nil
}

// threadsInNamespaceOf does find a thread in another namespace.
func TestStrayThreadIsSeen(t *testing.T) {
	if err := threadsInNamespaceOf(os.Getpid(), os.Getpid()); err != nil {
		t.Fatalf("all threads are in the same namespace: %v", err)
	}
	nstest.New(t).Do(t, func() error {
		if err := threadsInNamespaceOf(os.Getpid(), os.Getpid()); err == nil {
			t.Error("a thread in another namespace is not found")
		}
		return nil
	})
}

// errorOnce keeps the first error of several goroutines.
type errorOnce struct {
	mu  sync.Mutex
	err error
}

func (e *errorOnce) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

// inParallel calls f for 0 to n-1, with the given number of calls at a time, and fails t with the first error.
func inParallel(t *testing.T, workers, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	var first errorOnce
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				first.set(f(int(i)))
			}
		})
	}
	wg.Wait()
	if first.err != nil {
		t.Fatal(first.err)
	}
}
