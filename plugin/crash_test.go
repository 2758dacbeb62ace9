// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/plugin/dockersync"
	"github.com/weaveplugin/weave/plugin/remote"
	"github.com/weaveplugin/weave/store"
)

const (
	crashStateEnv  = "WEAVE_TEST_CRASH_STATE"
	crashStepEnv   = "WEAVE_TEST_CRASH_STEP"
	crashNsprocEnv = "WEAVE_TEST_CRASH_NSPROC"

	crashNetwork  = "7d2a4352179e00f14c5fbe322bff4b586f4cef09e5a4bda73851b8725299a4bc"
	crashEndpoint = "3345ac4971c9e239a8690fd27572bb369374017ee2c95f6faa11225d4a09c855"
	crashPool     = ipam.LocalSpace + "/10.88.0.0/24"
	crashAddress  = "10.88.0.1"
	crashIDs      = `"NetworkID":"` + crashNetwork + `","EndpointID":"` + crashEndpoint + `"`
)

// crashLife are Docker's calls in the whole life of a network and an endpoint with weave's IPAM.
var crashLife = []struct{ call, body string }{
	{"IpamDriver.RequestPool", `{"AddressSpace":"weavelocal","Pool":"10.88.0.0/24"}`},
	{
		"NetworkDriver.CreateNetwork", `{"NetworkID":"` + crashNetwork + `",` +
			`"IPv4Data":[{"AddressSpace":"weavelocal","Pool":"10.88.0.0/24"}]}`,
	},
	{"IpamDriver.RequestAddress", `{"PoolID":"` + crashPool + `"}`},
	{"NetworkDriver.CreateEndpoint", `{` + crashIDs + `,"Interface":{"Address":"` + crashAddress + `/24"}}`},
	{"NetworkDriver.Join", `{` + crashIDs + `,"SandboxKey":"/run/nowhere"}`},
	{"NetworkDriver.Leave", `{` + crashIDs + `}`},
	{"NetworkDriver.DeleteEndpoint", `{` + crashIDs + `}`},
	{"IpamDriver.ReleaseAddress", `{"PoolID":"` + crashPool + `","Address":"` + crashAddress + `"}`},
	{"IpamDriver.ReleasePool", `{"PoolID":"` + crashPool + `"}`},
	{"NetworkDriver.DeleteNetwork", `{"NetworkID":"` + crashNetwork + `"}`},
}

// crashCore is driver and IPAM on a state, as openCore makes them.
type crashCore struct {
	networks *driver.Driver
	pools    *ipam.IPAM
	stores   []store.Store
}

type steppingStore struct {
	store.Store
	step func(string)
}

func (s steppingStore) Apply(ctx context.Context, changes ...store.Change) error {
	s.step("write " + changes[0].Key)
	err := s.Store.Apply(ctx, changes...)
	s.step("written " + changes[0].Key)
	return err
}

func openCrashCore(t *testing.T, state string, step func(string)) crashCore {
	t.Helper()
	bolt, err := store.OpenBolt(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bolt.Close(); err != nil {
			t.Error(err)
		}
	})
	id, err := store.Identity(t.Context(), bolt)
	if err != nil {
		t.Fatal(err)
	}
	launcher, err := launch.New(launch.Options{Path: os.Getenv(crashNsprocEnv)})
	if err != nil {
		t.Fatal(err)
	}
	endpoints, err := store.OpenBolt(t.Context(), state+".endpoints")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := endpoints.Close(); err != nil {
			t.Error(err)
		}
	})
	st := steppingStore{bolt, step}
	networks, err := driver.New(driver.Options{
		Store: st, Endpoints: steppingStore{endpoints, step}, StateID: id, Launcher: launcher, Log: quiet(), MTU: 1500,
		Step: step,
	})
	if err != nil {
		t.Fatal(err)
	}
	pools, err := ipam.New(ipam.Options{
		Store: st, Log: quiet(), Routes: driver.HostRoutes, Reclaimable: networks.Reclaimable,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := pools.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	report, err := networks.Reconcile(t.Context())
	if err != nil || len(report.Problems) != 0 {
		t.Fatalf("reconcile: %+v, %v", report, err)
	}
	return crashCore{networks, pools, []store.Store{bolt, endpoints}}
}

// TestCrashedCalls is no test of its own: TestKillBetweenCallsAndSteps runs it in a process that kills itself with
// SIGKILL before its n-th step. It prints which calls have begun and which were answered.
func TestCrashedCalls(t *testing.T) {
	state := os.Getenv(crashStateEnv)
	if state == "" {
		t.Skip("runs in a process that is to be killed")
	}
	last, err := strconv.Atoi(os.Getenv(crashStepEnv))
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64 // atomic because veth pairs are removed in the background
	step := func(name string) {
		if n.Add(1) == int64(last) {
			fmt.Printf("killed before: %s\n", name)
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
		}
	}
	core := openCrashCore(t, state, step)
	calls := remote.New(remote.Options{Networks: core.networks, Pools: core.pools, Scope: "local", Log: quiet()})
	for _, c := range crashLife {
		fmt.Printf("begun: %s\n", c.call)
		w := httptest.NewRecorder()
		calls.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+c.call, strings.NewReader(c.body)))
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %s", c.call, w.Body)
		}
		fmt.Printf("answered: %s\n", c.call)
	}
}

// TestKillBetweenCallsAndSteps kills the plugin with SIGKILL before each step of what Docker's calls do, including
// those for addresses, and starts it again. What was answered is not lost. Then weave is compared with a Docker that
// has forgotten everything, and all of it is removed.
func TestKillBetweenCallsAndSteps(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	t.Setenv(crashNsprocEnv, nstest.Nsproc(t))
	for n := 1; ; n++ {
		state := filepath.Join(t.TempDir(), "weave.db")
		child := exec.Command(os.Args[0], "-test.run=^TestCrashedCalls$", "-test.v")
		child.Env = append(os.Environ(), crashStateEnv+"="+state, crashStepEnv+"="+strconv.Itoa(n))
		out, err := child.CombinedOutput()
		if err == nil {
			if n < 30 {
				t.Fatalf("only %d steps\n%s", n-1, out)
			}
			t.Logf("%d steps", n-1)
			return
		}
		if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("step %d: %v\n%s", n, err, out)
		}
		t.Run(strconv.Itoa(n), func(t *testing.T) { checkCrash(t, state, strings.Split(string(out), "\n")) })
		if t.Failed() {
			t.Fatalf("step %d\n%s", n, out)
		}
	}
}

func checkCrash(t *testing.T, state string, printed []string) {
	core := openCrashCore(t, state, func(string) {})
	networks, pools := core.networks, core.pools
	// standing reports whether what a call made must be there: the call was answered, and its opposite has not begun.
	standing := func(up, down string) bool {
		return slices.Contains(printed, "answered: "+up) && !slices.Contains(printed, "begun: "+down)
	}
	var held []netip.Addr
	for _, p := range pools.Pools() {
		for _, a := range pools.Addresses(p.ID) {
			held = append(held, a.Address)
		}
	}
	for _, tt := range []struct {
		up, down string
		is       bool
	}{
		{"IpamDriver.RequestPool", "IpamDriver.ReleasePool", len(pools.Pools()) == 1},
		{"NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork", len(networks.Networks()) == 1},
		{
			"IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress",
			slices.Contains(held, netip.MustParseAddr(crashAddress)),
		},
		{"NetworkDriver.CreateEndpoint", "NetworkDriver.DeleteEndpoint", len(networks.Endpoints()) == 1},
	} {
		if standing(tt.up, tt.down) && !tt.is {
			t.Errorf("what %s made is lost", tt.up)
		}
	}
	if got, want := len(links(t)), len(networks.Networks())+2*len(networks.Endpoints()); got != want {
		t.Errorf("%d links %q, want %d", got, links(t), want)
	}
	for _, ep := range networks.Endpoints() {
		hostEnd, bridge := mustLink(t, ep.HostEnd), mustLink(t, networks.Networks()[0].Bridge)
		if hostEnd.MasterIndex != bridge.Index {
			t.Errorf("host end %s is a port of link %d, want the bridge, %d",
				ep.HostEnd, hostEnd.MasterIndex, bridge.Index)
		}
	}

	// Docker was killed, too, and has forgotten everything. Nothing is so young that it may still be in the making, and
	// what the killed daemon was about to do the next one does not.
	networks.DockerStarted()
	comparison := dockersync.NewComparison(dockersync.ComparisonOptions{
		Docker: emptyDocker{}, Networks: networks, Pools: pools, Log: quiet(),
		Timing: dockersync.Timing{
			Interval: time.Millisecond, Retry: time.Millisecond, Grace: -time.Hour, Deadline: time.Minute,
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		comparison.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	eventually(t, "links gone", func() bool { return len(links(t)) == 0 })
	rules, err := exec.Command("nft", "list", "ruleset").Output()
	if err != nil || strings.Contains(string(rules), "weave") {
		t.Errorf("rules left: %s %v", rules, err)
	}
	var left []string
	eventually(t, "records gone", func() bool {
		left = nil
		for _, st := range core.stores {
			records, err := st.List(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if r.Key != "identity" {
					left = append(left, r.Key)
				}
			}
		}
		return len(left) == 0
	})
}

// emptyDocker is a Docker without networks and endpoints.
type emptyDocker struct{}

func (emptyDocker) Known(context.Context) (dockersync.Known, error) {
	return dockersync.Known{Drivers: []string{"weave"}}, nil
}
func (emptyDocker) NetworkName(string) string { return "" }
func (emptyDocker) Reachable() error          { return nil }
