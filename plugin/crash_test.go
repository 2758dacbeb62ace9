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
)

// crashLife is what Docker calls in the whole life of a network and an endpoint with weave's IPAM.
var crashLife = []struct{ call, body string }{
	{"IpamDriver.RequestPool", `{"AddressSpace":"weavelocal","Pool":"10.88.0.0/24"}`},
	{"NetworkDriver.CreateNetwork", `{"NetworkID":"` + crashNetwork + `","IPv4Data":[{"AddressSpace":"weavelocal","Pool":"10.88.0.0/24"}]}`},
	{"IpamDriver.RequestAddress", `{"PoolID":"` + crashPool + `"}`},
	{"NetworkDriver.CreateEndpoint", `{"NetworkID":"` + crashNetwork + `","EndpointID":"` + crashEndpoint + `","Interface":{"Address":"` + crashAddress + `/24"}}`},
	{"NetworkDriver.Join", `{"NetworkID":"` + crashNetwork + `","EndpointID":"` + crashEndpoint + `","SandboxKey":"/run/nowhere"}`},
	{"NetworkDriver.Leave", `{"NetworkID":"` + crashNetwork + `","EndpointID":"` + crashEndpoint + `"}`},
	{"NetworkDriver.DeleteEndpoint", `{"NetworkID":"` + crashNetwork + `","EndpointID":"` + crashEndpoint + `"}`},
	{"IpamDriver.ReleaseAddress", `{"PoolID":"` + crashPool + `","Address":"` + crashAddress + `"}`},
	{"IpamDriver.ReleasePool", `{"PoolID":"` + crashPool + `"}`},
	{"NetworkDriver.DeleteNetwork", `{"NetworkID":"` + crashNetwork + `"}`},
}

// crashCore is the backend on a state, as openCore makes it, that says before each change what comes.
type crashCore struct {
	drivers
	stores []store.Store
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
	t.Cleanup(func() { bolt.Close() })
	id, err := store.Identity(t.Context(), bolt)
	if err != nil {
		t.Fatal(err)
	}
	launcher, err := launch.New(launch.Options{Path: os.Getenv(crashNsprocEnv)})
	if err != nil {
		t.Fatal(err)
	}
	endpoints, err := store.OpenBolt(t.Context(), state + ".endpoints")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endpoints.Close() })
	st := steppingStore{bolt, step}
	networks, err := driver.New(driver.Options{Store: st, Endpoints: steppingStore{endpoints, step}, StateID: id, Launcher: launcher, Log: quiet(), MTU: 1500, Step: step})
	if err != nil {
		t.Fatal(err)
	}
	pools, err := ipam.New(ipam.Options{Store: st, Log: quiet(), Routes: driver.HostRoutes, Vacant: networks.Vacant})
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
	return crashCore{drivers{networks, pools}, []store.Store{bolt, endpoints}}
}

// TestCrashedCalls is no test of its own: TestKillBetweenCallsAndSteps runs it in a process that ends by SIGKILL before
// its n-th step. It says what has been answered.
func TestCrashedCalls(t *testing.T) {
	state := os.Getenv(crashStateEnv)
	if state == "" {
		t.Skip("runs in a process that is to be killed")
	}
	last, err := strconv.Atoi(os.Getenv(crashStepEnv))
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64 // a veth pair goes in the background
	step := func(name string) {
		if n.Add(1) == int64(last) {
			fmt.Printf("killed before: %s\n", name)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	core := openCrashCore(t, state, step)
	socket := newTestSocket(t, core)
	for _, c := range crashLife {
		fmt.Printf("begun: %s\n", c.call)
		w := httptest.NewRecorder()
		socket.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+c.call, strings.NewReader(c.body)))
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %s", c.call, w.Body)
		}
		fmt.Printf("answered: %s\n", c.call)
	}
}

// TestKillBetweenCallsAndSteps kills the plugin with SIGKILL before each step of what Docker's calls do, addresses
// included, and starts it again. Nothing that was answered is lost. Then Docker, which knows nothing of it any more, is
// compared with: nothing is left.
func TestKillBetweenCallsAndSteps(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	t.Setenv(crashNsprocEnv, nstest.Nsproc(t))
	for n := 1; ; n++ {
		state := filepath.Join(t.TempDir(), "weave.db")
		child := exec.Command(os.Args[0], "-test.run=^TestCrashedCalls$", "-test.v")
		child.Env = append(os.Environ(), crashStateEnv+"="+state, crashStepEnv+"="+strconv.Itoa(n),
			"TMPDIR="+t.TempDir()) // testscript makes a directory at the start, and a killed process removes none
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

func checkCrash(t *testing.T, state string, said []string) {
	core := openCrashCore(t, state, func(string) {})
	networks, pools := core.networkDriver.(*driver.Driver), core.ipamDriver.(*ipam.IPAM)
	// standing: it was answered, and nothing has begun to take it away.
	standing := func(up, down string) bool {
		return slices.Contains(said, "answered: "+up) && !slices.Contains(said, "begun: "+down)
	}
	var held []netip.Addr
	for _, p := range pools.Pools() {
		for _, a := range pools.Addresses(p.ID) {
			held = append(held, a.Address)
		}
	}
	for what, tt := range map[string]struct{ standing, is bool }{
		"pool":     {standing("IpamDriver.RequestPool", "IpamDriver.ReleasePool"), len(pools.Pools()) == 1},
		"network":  {standing("NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork"), len(networks.Networks()) == 1},
		"address":  {standing("IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress"), slices.Contains(held, netip.MustParseAddr(crashAddress))},
		"endpoint": {standing("NetworkDriver.CreateEndpoint", "NetworkDriver.DeleteEndpoint"), len(networks.Endpoints()) == 1},
	} {
		if tt.standing && !tt.is {
			t.Errorf("the %s is lost", what)
		}
	}
	if got, want := len(links(t)), len(networks.Networks())+2*len(networks.Endpoints()); got != want {
		t.Errorf("%d links %q, want %d", got, links(t), want)
	}
	for _, ep := range networks.Endpoints() {
		if o := networks.Observe(t.Context(), networks.Endpoints(), driver.Kernel)[ep.ID]; o.Bridge != networks.Networks()[0].Bridge {
			t.Errorf("host end %s is a port of %q", ep.HostEnd, o.Bridge)
		}
	}

	// Docker was killed, too, and knows nothing; what it had made is past the time that something takes to make.
	e := &engine{docker: &fakeDocker{}, networks: networks, pools: pools, log: quiet()}
	long := time.Now().Add(time.Hour)
	for range 2 { // endpoints first; their network goes once it has none
		e.forget(t.Context(), &reading{begun: long}, &reading{begun: long})
	}
	eventually(t, "links gone", func() bool { return len(links(t)) == 0 })
	for _, command := range []string{"iptables", "ip6tables"} {
		rules, err := exec.Command(command, "-S", "FORWARD").Output()
		if err != nil || strings.Contains(string(rules), "weave:") {
			t.Errorf("%s: rules left: %s %v", command, rules, err)
		}
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
