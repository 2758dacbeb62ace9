// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

const (
	vni, udpPort = 1<<24 - 1, 7789
	networkMTU   = 1430 // fits into 1500 bytes over IPv4 and over IPv6
)

// fast is a pace for tests: what a fault is found by stays the same.
var fast = pace{
	interval: 200 * time.Millisecond, again: 100 * time.Millisecond, answer: 100 * time.Millisecond,
	patience: 500 * time.Millisecond, open: 100 * time.Millisecond, entered: 200 * time.Millisecond,
}

// host is a machine with a prober that runs until its test ends.
type host struct {
	t    *testing.T
	ns   *nstest.NS
	self Host
	*Prober
}

// newHosts makes two hosts, each with a link "under", whose other end is in the namespace wire: "host1" and "host2".
func newHosts(t *testing.T, wire *nstest.NS, ipv6 bool) [2]*host {
	t.Helper()
	var hosts [2]*host
	for i := range hosts {
		h := &host{t: t, ns: nstest.New(t), self: Host{
			ID: fmt.Sprintf("%d123456789abcdef", i+1), Name: fmt.Sprintf("host%d", i+1), MTU: networkMTU,
			VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}),
		}}
		cidr := h.self.VTEP.String() + "/24"
		if ipv6 {
			h.self.VTEP = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1))
			cidr = h.self.VTEP.String() + "/64"
		}
		wire.Do(t, func() error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = h.self.Name
			pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "under", PeerNamespace: netlink.NsFd(h.ns.FD())}
			if err := netlink.LinkAdd(pair); err != nil {
				return err
			}
			return nstest.Run("ip link set " + attrs.Name + " up")
		})
		h.run("ip link set under up", "ip address add "+cidr+" dev under nodad")
		hosts[i] = h
	}
	for i, h := range hosts {
		log := logrus.New()
		log.SetOutput(t.Output())
		log.SetLevel(logrus.DebugLevel)
		h.Prober = New(Options{
			ID: h.self.ID, StateID: h.self.ID, Local: h.self.VTEP, Port: udpPort, VNI: vni,
			Log: logrus.NewEntry(log).WithField("at", h.self.Name),
		})
		h.pace = fast
		h.open = func(o Options, mtu int) (d *device, err error) {
			h.ns.Do(t, func() error { d, err = openDevice(o, mtu); return nil })
			return d, err
		}
		h.Set(networkMTU, []Host{hosts[1-i].self})
	}
	return hosts
}

// bridged returns a namespace with a bridge that connects hosts that are added to it.
func bridged(t *testing.T, ipv6 bool) (*nstest.NS, [2]*host) {
	t.Helper()
	wire := nstest.New(t)
	hosts := newHosts(t, wire, ipv6)
	wire.Do(t, func() error {
		return nstest.Run("ip link add wire type bridge mcast_snooping 0", "ip link set wire up",
			"ip link set host1 master wire", "ip link set host2 master wire",
			"nft add table bridge t", "nft add chain bridge t f { type filter hook forward priority 0; }")
	})
	return wire, hosts
}

// start runs the prober until the test ends.
func (h *host) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
		if links := h.links(); strings.Contains(links, DeviceName) {
			h.t.Errorf("the device is left:\n%s", links)
		}
	})
}

func (h *host) links() (out string) {
	h.ns.Do(h.t, func() error {
		b, err := exec.Command("ip", "-d", "link").CombinedOutput()
		out = string(b)
		return err
	})
	return out
}

// run runs commands on the host.
func (h *host) run(commands ...string) {
	h.t.Helper()
	h.ns.Do(h.t, func() error { return nstest.Run(commands...) })
}

// finds waits until the host has found that, and no other fault, on the way to the other host.
func (h *host) finds(other *host, want Fault) Result {
	h.t.Helper()
	var got Result
	eventually(h.t, fmt.Sprintf("%s finds the fault %q", h.self.Name, want), func() error {
		got = h.Results()[other.self.ID]
		if got.Probed.IsZero() || got.Fault != want {
			return fmt.Errorf("%+v, problems %q", got, h.Problems())
		}
		return nil
	})
	return got
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not in time: %s: %v", what, err)
		}
	}
}
