// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netnsid"
	"github.com/weaveplugin/weave/store"
)

// rig is a driver on a host of its own: the namespaces of a test that nstest.Reexec has put itself into.
type rig struct {
	*Driver
	t         *testing.T
	nsproc    string
	state     string
	endpoints string
	idle      bool   // it does not run in the background: it repairs nothing by itself
	pause     func() // ends what runs in the background, so that nothing is put right; requests go on
	stop      func()

	join func(*Options) (leave func()) // makes the host one of a cluster; nil: it is in none
}

// newRigWith returns a rig whose nsproc is the program at path.
func newRigWith(t *testing.T, nsproc string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{
		t: t, nsproc: nsproc, state: filepath.Join(dir, "weave.db"), endpoints: filepath.Join(dir, "endpoints.db"),
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// newIdleRig returns a rig that repairs nothing by itself.
func newIdleRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.stop()
	r.idle = true
	r.start()
	return r
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, nstest.Nsproc(t))
}

// start opens the state, reconciles and runs, as the daemon does.
func (r *rig) start() Report {
	r.t.Helper()
	d, done := openDriver(r.t, r.nsproc, r.state, r.endpoints, r.join)
	report, err := d.Reconcile(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	if r.idle {
		ended <- nil
	} else {
		go func() { ended <- d.Run(ctx) }()
	}
	r.Driver = d
	r.pause = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
	r.stop = func() {
		r.pause()
		done()
		r.stop = func() {}
	}
	return report
}

// openDriver makes a driver, in a cluster if join is not nil.
func openDriver(t testing.TB, nsproc, state, endpoints string, join func(*Options) (leave func())) (
	d *Driver, done func(),
) {
	t.Helper()
	st, err := store.OpenBolt(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	endpointStore, err := store.OpenBolt(t.Context(), endpoints)
	if err != nil {
		t.Fatal(err)
	}
	id, err := store.Identity(context.Background(), st)
	if err != nil {
		t.Fatal(err)
	}
	launcher, err := launch.New(launch.Options{Path: nsproc})
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := netnsid.New(launcher.Sandboxes())
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(testWriter{t})
	programs := tc.Load(t.Context())
	if err := programs.Problem(); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Store: st, Endpoints: endpointStore, StateID: id, Launcher: launcher, Kernel: kernel, Programs: programs,
		Log: logrus.NewEntry(log), MTU: 1500,
	}
	leave := func() {}
	if join != nil {
		leave = join(&o)
	}
	d, err = New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d, func() {
		leave()
		err := errors.Join(d.Close(), kernel.Close(), programs.Close(), endpointStore.Close(), st.Close())
		if err != nil {
			t.Error(err)
		}
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) { w.t.Logf("%s", b); return len(b), nil }

func newNetwork(id NetworkID) NetworkSpec {
	return NetworkSpec{Definition: Definition{ID: id, Pools: []Pool{
		{Subnet: netip.MustParsePrefix("10.40.0.0/16"), Space: "LocalDefault"},
		{Subnet: netip.MustParsePrefix("fd00:40::/64"), Space: "LocalDefault"},
	}}}
}

// onBridge returns a network with a bridge of that name.
func onBridge(id NetworkID, name string) NetworkSpec {
	spec := newNetwork(id)
	spec.Bridge = name
	return spec
}

func withMTU(id NetworkID, mtu int) NetworkSpec {
	spec := newNetwork(id)
	spec.MTU = mtu
	return spec
}

// underHostRules returns a network whose frames obey the host's rules, so that it needs a rule there.
func underHostRules(id NetworkID) NetworkSpec {
	spec := newNetwork(id)
	spec.Firewall = FirewallHost
	return spec
}

func withMulticast(id NetworkID) NetworkSpec {
	spec := newNetwork(id)
	spec.Multicast = true
	return spec
}

func adopted(id EndpointID, mac mac.Address, addresses []netip.Prefix, sandbox string) AdoptedEndpoint {
	return AdoptedEndpoint{EndpointSpec: EndpointSpec{ID: id, MAC: mac, Addresses: addresses}, Sandbox: sandbox}
}

func newEndpoint(nw NetworkID, n int) EndpointSpec {
	return EndpointSpec{Network: nw, ID: endpointID(n), Addresses: []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.40.%d.%d/16", n/250, n%250+1)),
		netip.MustParsePrefix(fmt.Sprintf("fd00:40::%x/64", n+1)),
	}}
}

func endpointID(n int) EndpointID { return EndpointID(fmt.Sprintf("%011x%053x", n, 0)) }

func (r *rig) createNetwork(spec NetworkSpec) {
	r.t.Helper()
	if err := r.CreateNetwork(r.t.Context(), spec); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) createEndpoint(nw NetworkID, n int) (EndpointID, mac.Address) {
	r.t.Helper()
	ep, err := r.CreateEndpoint(r.t.Context(), newEndpoint(nw, n))
	if err != nil {
		r.t.Fatal(err)
	}
	return ep.ID, ep.MAC
}

// attach does what Docker does: Join, then the container end moves into the sandbox, gets its name and addresses, and
// up.
func (r *rig) attach(id EndpointID, sandbox *nstest.NS, name string) {
	r.t.Helper()
	r.attachTo(id, sandbox, name, Attachment{Link: containerEndName(id), Prefix: "eth"})
}

// attachTo is attach for a Join with that answer.
func (r *rig) attachTo(id EndpointID, sandbox *nstest.NS, name string, want Attachment) {
	r.t.Helper()
	ep, _ := r.tracked.endpoint(id)
	resp, err := r.Join(r.t.Context(), ep.Network, id, sandbox.Path(), NoPorts)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp != want {
		r.t.Fatalf("Join answers %+v, want %+v", resp, want)
	}
	link, err := netlink.LinkByName(resp.Link)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(link, sandbox.FD()); err != nil {
		r.t.Fatal(err)
	}
	sandbox.Do(r.t, func() error {
		if err := netlink.LinkSetName(link, name); err != nil {
			return err
		}
		for _, a := range ep.Addresses {
			addr, err := netlink.ParseAddr(a.String())
			if err != nil {
				return err
			}
			addr.Flags = 0x02 // IFA_F_NODAD
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
}

// attachByGateways attaches an endpoint whose way out are the gateways of its network, of both families.
func (r *rig) attachByGateways(id EndpointID, sandbox *nstest.NS, spec NetworkSpec) {
	r.t.Helper()
	r.attachTo(id, sandbox, "eth0", Attachment{
		Link: containerEndName(id), Prefix: "eth", Gateway: spec.Pools[0].Gateway, GatewayIPv6: spec.Pools[1].Gateway,
	})
	sandbox.Do(r.t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		for _, p := range spec.Pools {
			err = errors.Join(err, netlink.RouteAdd(&netlink.Route{
				LinkIndex: eth0.Attrs().Index, Gw: p.Gateway.AsSlice(),
			}))
		}
		return err
	})
}

func (r *rig) delete(id EndpointID) {
	r.t.Helper()
	ep, _ := r.tracked.endpoint(id)
	for range 2 { // twice without harm
		if err := r.DeleteEndpoint(r.t.Context(), ep.Network, id); ep.ID != "" && err != nil {
			r.t.Fatal(err)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ownLinks are the host's links with a name or alias of weave's.
func ownLinks(t *testing.T) []string {
	t.Helper()
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range all {
		if a := l.Attrs(); strings.HasPrefix(a.Name, "wv") || strings.HasPrefix(a.Alias, aliasPrefix) {
			out = append(out, a.Name)
		}
	}
	slices.Sort(out)
	return out
}

func mustLink(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return l
}

func addressesOf(t *testing.T, l netlink.Link) []netlink.Addr {
	t.Helper()
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}
