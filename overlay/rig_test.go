// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

const (
	bridgeName, deviceName = "wv-app", "wvx-app"
	vni, udpPort           = 4711, 7789
	underlayMTU            = 1500
)

// underlay is a network that connects hosts: a bridge in a namespace of its own.
type underlay struct {
	t    *testing.T
	wire *nstest.NS
	ipv6 bool
}

// host is a machine on the underlay: a namespace, that of the test itself if it is nil.
type host struct {
	u          *underlay
	ns         *nstest.NS
	number     int
	vtep       netip.Addr
	containers []*container
}

// container is a namespace at a port of a host's bridge.
type container struct {
	*nstest.NS
	Remote
}

func newUnderlay(t *testing.T, ipv6 bool) *underlay {
	t.Helper()
	u := &underlay{t: t, wire: nstest.New(t), ipv6: ipv6}
	u.wire.Do(t, func() error {
		return nstest.Run("ip link add wire type bridge mcast_snooping 0", "ip link set wire up")
	})
	return u
}

// newHost adds a host to the underlay, with a bridge and its VXLAN device. before are commands that set up the bridge
// before it is up.
func (u *underlay) newHost(number int, ns *nstest.NS, before ...string) *host {
	t := u.t
	t.Helper()
	h := &host{u: u, ns: ns, number: number, vtep: netip.AddrFrom4([4]byte{192, 0, 2, byte(number)})}
	if u.ipv6 {
		h.vtep = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", number))
	}
	port := fmt.Sprintf("host%d", number)
	inside, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func(f *os.File) { f.Close() }(inside)
	if ns != nil {
		inside = ns.File()
	}
	u.wire.Do(t, func() error {
		pair := &netlink.Veth{
			LinkAttrs: named(port), PeerName: "under", PeerNamespace: netlink.NsFd(int(inside.Fd())),
		}
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		return nstest.Run("ip link set "+port+" master wire up", "ip link set "+port+" mtu 2000")
	})
	h.do(func() error {
		device := h.device()
		err := errors.Join(
			nstest.Run("ip link set under up", "ip address add "+h.cidr()+" dev under nodad",
				"ip link add "+bridgeName+" type bridge"),
			nstest.Run(before...))
		if err == nil {
			err = device.Add()
		}
		return errors.Join(err, nstest.Run("ip link set "+deviceName+" addrgenmode none",
			"ip link set "+deviceName+" master "+bridgeName+" up", "ip link set "+bridgeName+" up"))
	})
	h.do(func() error {
		link, err := netlink.LinkByName(deviceName)
		if err != nil {
			return err
		}
		return setPort(link)
	})
	return h
}

func (h *host) cidr() string {
	if h.u.ipv6 {
		return h.vtep.String() + "/64"
	}
	return h.vtep.String() + "/24"
}

func (h *host) device() Device {
	return Device{
		Name: deviceName, VNI: vni, Port: udpPort, Local: h.vtep, MTU: underlayMTU - Overhead(h.vtep),
	}
}

// do runs f on the host.
func (h *host) do(f func() error) {
	h.u.t.Helper()
	if h.ns != nil {
		h.ns.Do(h.u.t, f)
	} else if err := f(); err != nil {
		h.u.t.Fatal(err)
	}
}

// start starts a container with that number, which its MAC and its addresses have.
func (h *host) start(number int) *container {
	t := h.u.t
	t.Helper()
	c := &container{NS: nstest.New(t), Remote: Remote{
		MAC: mac.Address{2, 0, 0, 0, 0, byte(number)}, VTEP: h.vtep,
		Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 40, 0, byte(number)}), netip.MustParseAddr(fmt.Sprintf("fd00:40::%x", number)),
		},
	}}
	mtu := fmt.Sprint(h.device().MTU)
	name := fmt.Sprintf("wve-%d", number)
	h.do(func() error {
		pair := &netlink.Veth{LinkAttrs: named(name), PeerName: "eth0", PeerNamespace: netlink.NsFd(c.FD())}
		pair.MTU, pair.PeerHardwareAddr = h.device().MTU, net.HardwareAddr(c.MAC[:])
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		return nstest.Run("ip link set "+name+" addrgenmode none", "ip link set "+name+" master "+bridgeName+" up")
	})
	c.Do(t, func() error {
		return nstest.Run("ip link set eth0 mtu "+mtu+" up", "ip address add "+c.Addresses[0].String()+"/24 dev eth0",
			"ip address add "+c.Addresses[1].String()+"/64 dev eth0 nodad")
	})
	h.containers = append(h.containers, c)
	return c
}

// tag has the frames between ports carry a priority tag, as the driver does, and the host's rules drop all others.
func (h *host) tag(programs *tc.Programs) {
	h.do(func() error {
		err := nstest.Run("iptables -P FORWARD DROP", "ip6tables -P FORWARD DROP")
		for _, name := range []string{"iptables", "ip6tables", "arptables"} {
			err = errors.Join(err, os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, []byte("1"), 0))
		}
		ports, listErr := netlink.LinkList()
		err = errors.Join(err, listErr)
		for _, port := range ports {
			if port.Attrs().MasterIndex != 0 {
				err = errors.Join(err, programs.Set(port, tc.Attached{}, tc.AtPort(tc.Port{Tag: true})))
			}
		}
		return err
	})
}

// network is what the host has to know of the endpoints on the others.
func (h *host) network(others ...*host) Network {
	n := Network{Device: deviceName, Bridge: bridgeName, Local: h.vtep}
	for _, other := range others {
		for _, c := range other.containers {
			n.Remotes = append(n.Remotes, c.Remote)
		}
	}
	return n
}

// program programs the host once. It returns what was a problem.
func (h *host) program(others ...*host) string {
	h.u.t.Helper()
	n := h.network(others...)
	nw := &network{key: "app", device: n.Device, bridge: n.Bridge}
	problem := ""
	h.do(func() error {
		p := programmer{}
		defer p.close()
		l, err := nw.find()
		if err == nil {
			t := task{network: nw, want: Desired(n.Local, n.Remotes), links: l, stale: true}
			var neighbours map[int][]row
			if neighbours, err = p.neighbours(h.u.t.Context(), []int{l.bridge}); err == nil {
				problem, err = p.program(h.u.t.Context(), t, neighbours[l.bridge])
			}
		}
		return err
	})
	return problem
}

// overlay runs an Overlay on the test's own host until the test ends.
func (h *host) overlay() *Overlay {
	t := h.u.t
	t.Helper()
	if h.ns != nil {
		t.Fatal("an Overlay can only run in the test's own namespace")
	}
	log := logrus.New()
	log.SetLevel(logrus.DebugLevel)
	log.SetOutput(t.Output())
	o := New(logrus.NewEntry(log))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return o
}

// set has an Overlay program the host, and waits until it has.
func (h *host) set(o *Overlay, others ...*host) {
	h.u.t.Helper()
	o.Set("app", h.network(others...))
	await(h.u.t, o)
}

func await(t *testing.T, o *Overlay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := o.Await(ctx, "app"); err != nil {
		t.Fatal(err)
	}
}

// rows returns weave's entries on the host, and those of others.
func (h *host) rows() (own Entries, foreign map[Entry]Entry) {
	h.u.t.Helper()
	nw := &network{device: deviceName, bridge: bridgeName}
	h.do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.close()
		l, err := nw.find()
		if err != nil {
			return err
		}
		rows, err := allRows(h.u.t.Context(), c, l)
		sorted := sortOut(rows, nil, Entries{})
		own, foreign = sorted.own, sorted.foreign
		return err
	})
	return own, foreign
}

// allRows lists the rows of a network's tables.
func allRows(ctx context.Context, c *conn, l links) ([]row, error) {
	ports, err := c.ports(ctx, l)
	if err != nil {
		return nil, err
	}
	neighbours, err := c.neighbours(ctx, []int{l.bridge})
	return append(ports, neighbours[l.bridge]...), err
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func loadPrograms(t *testing.T) *tc.Programs {
	t.Helper()
	programs := tc.Load(t.Context())
	t.Cleanup(func() {
		if err := programs.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := programs.Problem(); err != nil {
		t.Fatal(err)
	}
	return programs
}
