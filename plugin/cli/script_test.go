// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	apiserver "github.com/weaveplugin/weave/api/server"
	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/check"
	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/events"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/record"
)

var updateScripts = flag.Bool("update", false, "write what the scripts' commands print into the scripts")

// tests are this package's tests, whose commands write coverage data where that is collected.
type tests struct{ m *testing.M }

func (t tests) Run() int { return nstest.Main(t.m) }

func TestMain(m *testing.M) {
	run := func() { os.Exit(Run(context.Background(), os.Args, os.Stderr, Build{Version: "(devel)"})) }
	testscript.Main(tests{m}, map[string]func(){"weave": run, dockerName: run})
}

// TestScripts runs the scripts in testdata/script against a server of the API that answers for a made-up town.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: *updateScripts,
		Setup:         serveTowns,
	})
}

// serveTowns serves the API at weave.sock in the script's directory, that of a host of a cluster at cluster.sock, that
// of such a host whose etcd does not answer at cutoff.sock, and that of one whose networks have Docker's own IPAM at
// dockers.sock.
func serveTowns(env *testscript.Env) error {
	env.Setenv("WEAVE_SOCKET", filepath.Join(env.WorkDir, "weave.sock"))
	inCluster := apiserver.Options{
		Tracker: clusterTown{}, Inspector: town{}, Names: townNames{}, Status: clusterStatus, Cluster: townCluster{},
		Pools: townPools("shop"), CheckHost: townFindings(api.CheckWarning),
	}
	away, dockers := inCluster, inCluster
	away.Cluster, dockers.Pools = cutOff{}, nil
	return errors.Join(
		serve(env, "weave.sock", apiserver.Options{
			Tracker: town{}, Inspector: town{}, Names: townNames{}, Status: townStatus, Pools: townPools(""),
			Nsproc: town{}, Rules: town{}, DNS: town{}, Checker: town{},
			Events: townEvents(), CheckHost: townFindings(api.CheckFailed),
		}),
		serve(env, "cluster.sock", inCluster),
		serve(env, "cutoff.sock", away),
		serve(env, "dockers.sock", dockers),
	)
}

// serve serves the API at a socket in the script's directory until the script has ended.
func serve(env *testscript.Env, socket string, o apiserver.Options) error {
	l, err := net.Listen("unix", filepath.Join(env.WorkDir, socket))
	if err != nil {
		return err
	}
	handler := apiserver.New(o)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "uid 0" // root, who may change something, whoever runs the tests
		handler.ServeHTTP(w, r)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	env.Defer(func() {
		if err := server.Close(); err != nil {
			env.T().Fatal(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			env.T().Fatal(err)
		}
	})
	return nil
}

var townDay = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// town is a Tracker of two networks with four endpoints, and the Inspector of their host.
type town struct{}

func townID(begin string) string { return begin + strings.Repeat("0", 64-len(begin)) }

func (town) Networks() []driver.Network {
	return []driver.Network{
		{
			Definition: driver.Definition{ID: driver.NetworkID(townID("aaaa1")), MTU: 1500, Pools: []driver.Pool{
				{Subnet: netip.MustParsePrefix("10.32.0.0/22")},
				{Subnet: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1")},
			}},
			Local: driver.Local{Bridge: "wv-aaaa10000000", Created: townDay},
		},
		{
			Definition: driver.Definition{
				ID: driver.NetworkID(townID("aaaa2")), MTU: 9000, Internal: true, Multicast: true,
				Pools: []driver.Pool{{Subnet: netip.MustParsePrefix("10.32.8.0/24")}},
			},
			Local: driver.Local{Bridge: "br-db", Foreign: true, Created: townDay},
		},
	}
}

func (town) Endpoints() []driver.Endpoint {
	endpoint := func(n int, network string, state driver.EndpointState, addresses ...string) driver.Endpoint {
		e := driver.Endpoint{
			ID: driver.EndpointID(townID(fmt.Sprintf("eeee%d", n))), Network: driver.NetworkID(townID(network)),
			HostEnd: fmt.Sprintf("wve-eeee%d000000", n), MAC: mac.Address{0: 2, 5: byte(n)},
			Carrier: state == driver.Up, Created: townDay,
		}
		if state != driver.Created {
			e.Sandbox = fmt.Sprintf("/var/run/docker/netns/%012d", n)
		}
		for _, a := range addresses {
			e.Addresses = append(e.Addresses, netip.MustParsePrefix(a))
		}
		return e
	}
	return []driver.Endpoint{
		endpoint(1, "aaaa1", driver.Up, "10.32.0.2/22", "fd00:1::2/64"),
		endpoint(2, "aaaa1", driver.Up, "10.32.0.3/22"),
		endpoint(3, "aaaa1", driver.Created, "10.32.0.4/22"),
		endpoint(4, "aaaa2", driver.Up, "10.32.8.2/24"),
	}
}

// townPools returns the pools of weave's IPAM; those of the first network are of a network of the cluster if it is
// named.
func townPools(network string) func() []ipam.Pool {
	return func() []ipam.Pool {
		return []ipam.Pool{
			{Subnet: netip.MustParsePrefix("10.32.0.0/22"), Network: network},
			{Subnet: netip.MustParsePrefix("fd00:1::/64"), Network: network},
			{Subnet: netip.MustParsePrefix("10.32.8.0/24")},
			{Subnet: netip.MustParsePrefix("10.99.0.0/24"), Range: netip.MustParsePrefix("10.99.0.64/26")},
		}
	}
}

// Observe finds everything as it should be, except that the second endpoint has another address than its own.
func (t town) Observe(_ context.Context, endpoints []driver.Endpoint, s api.Source) (
	observed map[driver.EndpointID]inspect.Observation,
) {
	bridges := map[driver.NetworkID]string{}
	for _, n := range t.Networks() {
		bridges[n.ID] = n.Bridge
	}
	observed = map[driver.EndpointID]inspect.Observation{}
	for _, e := range endpoints {
		o := inspect.Observation{Source: s, Bridge: bridges[e.Network], Host: &netstate.Link{Name: e.HostEnd, Up: true}}
		if e.State() != driver.Created {
			o.Inside = &netstate.Link{Name: "eth0", MAC: e.MAC, Up: true, Addresses: e.Addresses}
		}
		if strings.HasPrefix(string(e.ID), "eeee2") {
			o.Inside.Addresses = []netip.Prefix{netip.MustParsePrefix("10.32.0.77/22")}
		}
		observed[e.ID] = o
	}
	return observed
}

// Examine finds what Observe does, in a sandbox where a server listens.
func (t town) Examine(ctx context.Context, e driver.Endpoint) inspect.Examination {
	x := inspect.Examination{Observation: t.Observe(ctx, []driver.Endpoint{e}, api.Nsproc)[e.ID]}
	counters := netstate.Counters{RxPackets: 3, RxBytes: 300, RxDropped: 1, TxPackets: 2, TxBytes: 200, TxErrors: 4}
	x.Host.Index, x.Host.MTU, x.Host.Carrier, x.Host.PortState, x.Host.Qdisc = 7, 1500, true, "forwarding", "noqueue"
	x.Host.Counters = &counters
	x.Stations = []inspect.Station{{MAC: e.MAC}, {MAC: mac.Address{0: 2, 5: 99}, Permanent: true}}
	if e.State() == driver.Created {
		return x
	}
	x.Inside.Index, x.Inside.MTU, x.Inside.Carrier, x.Inside.Counters = 6, 1500, true, &counters
	x.Sandbox = &netstate.Snapshot{
		Links: []netstate.Link{
			{Index: 1, Name: "lo\x1b[2J", MTU: 65536, Up: true, Carrier: true, Addresses: prefixes("127.0.0.1/8")},
			*x.Inside,
		},
		Routes: []netstate.Route{
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.32.0.1"), Link: 6},
			{Destination: netip.MustParsePrefix("10.32.0.0/22"), Link: 6, Metric: 5, MTU: 1400},
		},
		Neighbours: []netstate.Neighbour{
			{Address: netip.MustParseAddr("10.32.0.1"), MAC: mac.Address{0: 2, 5: 99}, Link: 6, State: "reachable"},
			{Address: netip.MustParseAddr("10.32.0.9"), Link: 6, State: "failed"},
		},
		Rules: []netstate.Rule{
			{Action: "lookup", Table: 255},
			{
				Priority: 9, Inverted: true, From: netip.MustParsePrefix("10.0.0.0/8"),
				To: netip.MustParsePrefix("fd00::/8"), Mark: 1, Mask: 0xff, In: "eth0", Out: "lo",
				Action: "unreachable", Partial: true,
				IPv6: true,
			},
			{Priority: 10, Action: "lookup", Table: 7000},
		},
		HasSockets: strings.HasPrefix(string(e.ID), "eeee2"),
	}
	if x.Sandbox.HasSockets {
		x.Sandbox.Sockets = []netstate.Socket{
			{Protocol: "tcp", Local: netip.MustParseAddrPort("0.0.0.0:80"), Queued: 2},
			{Protocol: "tcp", Local: netip.MustParseAddrPort("127.0.0.1:5432"), UID: 999},
			{Protocol: "udp", Local: netip.MustParseAddrPort("10.32.0.3:53"), UID: 100, Queued: 512},
		}
	}
	x.Problems = []string{"the bridge is shy"}
	return x
}

// Listen finds that no end can be heard.
func (town) Listen(context.Context, driver.Endpoint, string) ([]capture.Link, []string, error) {
	return nil, []string{"the container end is deaf\x1b[2J"}, nil
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

// FirewallRules finds two rules, one of which counts.
func (town) FirewallRules(_ context.Context, n driver.Network) ([]firewall.Rule, error) {
	return []firewall.Rule{
		{Table: "nft IPv4 filter FORWARD", Text: "-i wv-+ -o wv-+ -j ACCEPT", Counted: true, Packets: 12, Bytes: 1200},
		{Table: "legacy IPv4 raw PREROUTING", Text: "-i " + n.Bridge + " -j ACCEPT"},
	}, errors.New("the rules of IPv6 can't be read")
}

// DNS knows the resolver of each container but web.
func (town) DNS(_ context.Context, container string) (*api.DNS, error) {
	if strings.HasPrefix(container, "cccc1") {
		return nil, errors.New("docker does not answer")
	}
	return &api.DNS{
		Resolver: netip.MustParseAddr("127.0.0.11"), Servers: []string{"192.0.2.53"}, Search: []string{"example.com"},
	}, nil
}

// Check finds that nobody listens at any port.
func (town) Check(_ context.Context, q check.Question) check.Result {
	route := api.Checked{Layer: api.LayerRoute, Result: api.CheckOK, Evidence: "out of eth0"}
	if q.Port == 0 {
		return check.Result{Layers: []api.Checked{route}}
	}
	return check.Result{Failed: api.LayerListener, Layers: []api.Checked{route, {
		Layer: api.LayerListener, Result: api.CheckFailed, Advice: "start it",
		Evidence: fmt.Sprintf("nobody listens at port %d\x1b[2J", q.Port),
	}}}
}

// townFindings returns what finds one thing that is in order, and one that is not.
func townFindings(result api.CheckResult) func(context.Context) []api.HostFinding {
	return func(context.Context) []api.HostFinding {
		return []api.HostFinding{
			{Part: api.HostKernel, Result: api.CheckOK, Evidence: "Linux 6.1.0"},
			{
				Part: api.HostPorts, Result: result, Evidence: "bridge wvg-1 has 1000\x1b[2J",
				Advice: "use a second network",
			},
		}
	}
}

// RunNsproc has the kernel say nothing, and refuse to configure.
func (town) RunNsproc(_ context.Context, id driver.EndpointID, request driver.NsprocRequest) (launch.Run, error) {
	run := launch.Run{
		Request: protocol.Request{Version: protocol.Version, Record: true}, Whole: true, Took: 1500 * time.Microsecond,
		Datagrams: []record.Datagram{{
			After: 42 * time.Microsecond, Sent: true, Protocol: unix.NETLINK_ROUTE, Messages: []byte("gibberish"),
		}},
	}
	if request == driver.NsprocList {
		run.Request.List = &protocol.List{}
		run.Answer = binary.NativeEndian.AppendUint32(nil, unix.NLMSG_HDRLEN)
		run.Answer = binary.NativeEndian.AppendUint16(run.Answer, unix.NLMSG_DONE)
		run.Answer = append(run.Answer, make([]byte, unix.NLMSG_HDRLEN-len(run.Answer))...)
		return run, nil
	}
	run.Request.Configure = &protocol.Configure{Peer: 7, MAC: mac.MustParse("02:00:00:00:00:02")}
	run.Whole = false
	run.Err = fmt.Errorf("configure: no such device in the sandbox of %.5s\x1b[2J", id)
	return run, nil
}

// townNames has names for all but the endpoint that no container has yet; that of the network db is malicious.
type townNames struct{}

func (townNames) Refresh(context.Context) {}

func (townNames) NetworkName(id string) string {
	return map[string]string{townID("aaaa1"): "app", townID("aaaa2"): "db\x1b[2J"}[id]
}

func (townNames) Container(endpoint string) (id, name string) {
	c := map[string][2]string{
		townID("eeee1"): {townID("cccc1"), "web"},
		townID("eeee2"): {townID("cccc2"), "worker"},
		townID("eeee4"): {townID("cccc1"), "web"},
	}[endpoint]
	return c[0], c[1]
}

func townStatus(context.Context) api.Status {
	return api.Status{
		Version: "1.0.0", Commit: "abcdef", StateID: "0123456789abcdef", PID: 42, Started: townDay, Uptime: 5400,
		Store: "/var/lib/weave/weave.db", Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")},
		Docker:    api.Docker{Error: "connection refused"},
		Reconcile: &api.Reconcile{Ended: townDay, Took: 0.0123, Actions: []string{"bridge wv-aaaa10000000: recreated"}},
		Warnings:  []string{"firewall: no iptables here"},
	}
}

// townEvents are what has happened in the town, a minute apart.
func townEvents() *events.Log {
	log := events.New()
	for i, e := range []api.Event{
		{Type: api.NetworkEvent, Action: api.ActionMade, NetworkID: townID("aaaa1"),
			Cause: &api.Cause{Kind: api.CauseDocker, Call: "NetworkDriver.CreateNetwork"}},
		{Type: api.EndpointEvent, Action: api.ActionUp, NetworkID: townID("aaaa1"), EndpointID: townID("eeee1"),
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.32.0.2/22")}},
		{Type: api.DriftEvent, Action: api.ActionFound, NetworkID: townID("aaaa1"), EndpointID: townID("eeee2"),
			Drift: api.AddressMissing, Text: "address 10.32.0.3/22 missing",
			Cause: &api.Cause{Kind: api.CauseNetlink, Call: "RTM_DELADDR", Port: 812}},
		{Type: api.RepairEvent, Action: api.ActionDone, NetworkID: townID("aaaa2"), Text: "bridge br-db: down\x1b[2J",
			Cause: &api.Cause{Kind: api.CauseRepair}},
	} {
		e.Time = townDay.Add(time.Duration(i) * time.Minute)
		log.Add(e)
	}
	return log
}
