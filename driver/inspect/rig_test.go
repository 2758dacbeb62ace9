// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netnsid"
)

// rig is a host in a namespace of its own, with one network, an endpoint on it in a container's sandbox, and an
// Inspector of the host.
type rig struct {
	*Inspector
	t        *testing.T
	host     *nstest.NS
	sandbox  *nstest.NS
	network  driver.Network
	endpoint driver.Endpoint
}

// newRig returns a rig whose nsproc is the program at the path nsproc.
func newRig(t *testing.T, nsproc string) *rig {
	t.Helper()
	return newRigOn(t, nstest.New(t), nsproc)
}

// newRigOn is like newRig, with the host in a namespace.
func newRigOn(t *testing.T, host *nstest.NS, nsproc string) *rig {
	t.Helper()
	r := &rig{t: t, host: host, sandbox: nstest.New(t)}
	r.network = driver.Network{
		Definition: driver.Definition{
			ID: "aaaa10000000", Pools: []driver.Pool{{Subnet: netip.MustParsePrefix("10.40.0.0/16")}},
		},
		Local: driver.Local{Bridge: "wv-test"},
	}
	r.onHost(func() error {
		return add(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: r.network.Bridge}})
	})
	r.endpoint = r.attach("eeee10000000", "wve-test", "10.40.0.2/16", "fd00:40::2/64")
	r.Inspector = New(newLauncher(t, nsproc), newQuerier(t, r.host), testLog(t))
	return r
}

// attach makes an endpoint on the network with its container end, eth0, in the sandbox.
func (r *rig) attach(id driver.EndpointID, hostEnd string, addresses ...string) driver.Endpoint {
	r.t.Helper()
	_, mac := nstest.Veth(r.t, r.host, r.sandbox, hostEnd, addresses...)
	r.onHost(func() error { return setMaster(hostEnd, r.network.Bridge) })
	e := driver.Endpoint{ID: id, Network: r.network.ID, HostEnd: hostEnd, MAC: mac, Sandbox: r.sandbox.Path()}
	for _, a := range addresses {
		e.Addresses = append(e.Addresses, netip.MustParsePrefix(a))
	}
	return e
}

func (r *rig) onHost(f func() error)    { r.t.Helper(); r.host.Do(r.t, f) }
func (r *rig) inSandbox(f func() error) { r.t.Helper(); r.sandbox.Do(r.t, f) }

// run runs a command on the host.
func (r *rig) run(command string) {
	r.t.Helper()
	r.onHost(func() error {
		args := strings.Fields(command)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
		return nil
	})
}

// observe observes the rig's endpoint.
func (r *rig) observe(source api.Source) Observation {
	r.t.Helper()
	o, ok := r.observeAll(source, r.endpoint)[r.endpoint.ID]
	if !ok {
		r.t.Fatalf("by %s: the endpoint was not observed", source)
	}
	return o
}

func (r *rig) observeAll(source api.Source, endpoints ...driver.Endpoint) (observed map[driver.EndpointID]Observation) {
	r.t.Helper()
	r.onHost(func() error {
		observed = r.Observe(r.t.Context(), endpoints, source)
		return nil
	})
	return observed
}

func newLauncher(t *testing.T, nsproc string) *launch.Launcher {
	t.Helper()
	l, err := launch.New(launch.Options{Path: nsproc})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// newQuerier returns a Querier of the host's namespace.
func newQuerier(t *testing.T, host *nstest.NS) (q *netnsid.Querier) {
	t.Helper()
	host.Do(t, func() (err error) {
		q, err = netnsid.New("")
		return err
	})
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

// testLog returns a log that is printed with the test.
func testLog(t *testing.T) *logrus.Entry {
	log := logrus.New()
	log.SetOutput(t.Output())
	return logrus.NewEntry(log)
}

// The functions below work in the namespace of the thread that calls them.

// add adds the link and sets it up.
func add(link netlink.Link) error {
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("add %s: %w", link.Attrs().Name, err)
	}
	return netlink.LinkSetUp(link)
}

// setMaster makes the link a port of the bridge.
func setMaster(link, bridge string) error {
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	return with(link, func(l netlink.Link) error { return netlink.LinkSetMaster(l, master) })
}

// with calls change with the link of that name.
func with(name string, change func(netlink.Link) error) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return change(link)
}

// withAddress calls change, netlink.AddrAdd or netlink.AddrDel, with eth0 and the address.
func withAddress(change func(netlink.Link, *netlink.Addr) error, address string) func() error {
	return func() error {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return with("eth0", func(l netlink.Link) error { return change(l, a) })
	}
}

// canceled returns a context that has ended.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
