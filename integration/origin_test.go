package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/internal/nstest"
)

// Weave Net's listing failed now and then, because a thread of the daemon stood in a container's namespace when it
// looked for the host's bridge. Here: many containers, many listings, others that come and go all the while; no listing
// fails, none misses or invents an endpoint or a drift, and no thread is ever seen outside of the host's namespace. The
// host's own links come and go, too: the kernel then interrupts a dump of them.
func TestListingsAmidChurn(t *testing.T) {
	const (
		containers = 100
		listings   = 200
		starters   = 4 // containers that are started at a time
		churners   = 2
		idle       = 100 // veth pairs of the host's: the more links, the longer a dump takes
		linkers    = 1   // that add and delete links of the host's
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
		pace := time.NewTicker(2 * time.Millisecond) // leaves the processor to what is looked at
		defer pace.Stop()
		for ctx.Err() == nil {
			strayErr.set(threadsInNamespaceOf(p.PID, h.PID()))
			samples.Add(1)
			<-pace.C
		}
	})
	var links atomic.Int64
	h.Exec(t, "sh", "-c", fmt.Sprintf("seq %d | sed 's/.*/link add idle& type veth peer name idlep&/' | ip -batch -", idle))
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
	// Enough of it, however fast the listings were.
	lab.Eventually(t, time.Minute, "churn", func() error {
		if n, l := turns.Load(), links.Load(); n < 10 || l < 10 {
			return fmt.Errorf("%d containers and %d times twenty links came and went", n, l)
		}
		return nil
	})
	stop()
	others.Wait()
	if err := errors.Join(strayErr.err, churnErrs.err); err != nil {
		t.Error(err)
	}
	t.Logf("%d listings of %d endpoints, %d other containers and %d times twenty links of the host came and went, %d looks at all threads",
		listings, containers, turns.Load(), links.Load(), samples.Load())
	ids := strings.Fields(h.Docker(t, "ps", "-aq"))
	inParallel(t, starters, len(ids), func(i int) error {
		_, err := h.DockerErr("rm", "-f", ids[i])
		return err
	})
	awaitNothingLeft(t, h)
}

// linkChurn adds links to the host, whose names begin with $1, and deletes them: two links ten times.
const linkChurn = `for i in 1 2 3 4 5 6 7 8 9 10; do
	echo link add $1a type veth peer name $1b
	echo link add $1c type bridge
	echo link del $1a
	echo link del $1c
done | ip -batch -`

// compareListing says in what a listing differs from the stable endpoints and at most so many others on the network
// churn.
func compareListing(stable map[string]api.Endpoint, found []api.Endpoint, churn string, others int) error {
	seen := map[string]bool{}
	for _, e := range found {
		was, known := stable[e.ID]
		switch {
		case seen[e.ID]:
			return fmt.Errorf("endpoint %s is listed twice", e.ID)
		case !known && e.NetworkID != churn:
			return fmt.Errorf("endpoint %s is invented: %+v", e.ID, e)
		case known && (e.MAC != was.MAC || !slices.Equal(e.Addresses, was.Addresses) || e.Sandbox != was.Sandbox || e.State != api.Up):
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

// threadsInNamespaceOf says which threads of process pid are in another network namespace than process other.
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

// The look at the threads does see one that strays.
func TestStrayThreadIsSeen(t *testing.T) {
	if err := threadsInNamespaceOf(os.Getpid(), os.Getpid()); err != nil {
		t.Fatalf("no thread strays: %v", err)
	}
	nstest.New(t).Do(t, func() error {
		if err := threadsInNamespaceOf(os.Getpid(), os.Getpid()); err == nil {
			t.Error("a thread in another namespace is not seen")
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

// inParallel calls f for 0 to n-1, workers at a time.
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
