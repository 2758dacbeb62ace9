// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestDeviceIsMadeAsItIsWanted(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	for _, local := range []string{"192.0.2.1", "2001:db8::1"} {
		d := Device{Name: "wvx-1", VNI: 1<<24 - 1, Port: 7789, Local: netip.MustParseAddr(local), MTU: 1430}
		if err := d.Add(); err != nil {
			t.Fatal(err)
		}
		link := mustLink(t, d.Name)
		if wrong := d.Wrong(link); wrong != "" {
			t.Errorf("local %s: wrong: %s", local, wrong)
		}
		a := link.Attrs()
		if a.MTU != 1430 || a.MasterIndex != 0 || a.RawFlags&unix.IFF_UP != 0 {
			t.Errorf("local %s: %+v", local, a)
		}
		other := Device{Name: "wvx-2", VNI: d.VNI, Port: d.Port, Local: d.Local}
		if err := other.Add(); !errors.Is(err, unix.EEXIST) {
			t.Errorf("the same VNI and port once more: %v", err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeviceTellsWhatIsWrong(t *testing.T) {
	d := Device{Name: "wvx-1", VNI: 7, Port: 7789, Local: netip.MustParseAddr("192.0.2.1")}
	fitting := func() *netlink.Vxlan {
		return &netlink.Vxlan{VxlanId: 7, Port: 7789, SrcAddr: []byte{192, 0, 2, 1}}
	}
	for want, change := range map[string]func(*netlink.Vxlan){
		"":                          func(*netlink.Vxlan) {},
		"VNI 8, not 7":              func(l *netlink.Vxlan) { l.VxlanId = 8 },
		"UDP port 4789, not 7789":   func(l *netlink.Vxlan) { l.Port = 4789 },
		"learning true, not false":  func(l *netlink.Vxlan) { l.Learning = true },
		"group 239.0.0.1, not none": func(l *netlink.Vxlan) { l.Group = []byte{239, 0, 0, 1} },
		"external true, not false":  func(l *netlink.Vxlan) { l.FlowBased = true },
		"local address 2001:db8::1, not 192.0.2.1": func(l *netlink.Vxlan) {
			l.SrcAddr = netip.MustParseAddr("2001:db8::1").AsSlice()
		},
		"VNI 8, not 7, local address invalid IP, not 192.0.2.1": func(l *netlink.Vxlan) {
			l.VxlanId, l.SrcAddr = 8, nil
		},
	} {
		link := fitting()
		change(link)
		if got := d.Wrong(link); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got, want := d.Wrong(&netlink.Bridge{}), "a bridge, not a vxlan"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPortSettings(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	d := Device{Name: deviceName, VNI: 7, Port: 7789, Local: netip.MustParseAddr("192.0.2.1")}
	if err := d.Add(); err != nil {
		t.Fatal(err)
	}
	device := mustLink(t, deviceName)
	if _, err := wrongPort(device); err == nil || !strings.Contains(err.Error(), "port of no bridge") {
		t.Errorf("of no bridge: %v", err)
	}
	if err := nstest.Run("ip link add wv-app type bridge", "ip link set wvx-app master wv-app"); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		if got, err := wrongPort(device); err != nil || got != want {
			t.Errorf("wrong: %q, %v, want %q", got, err, want)
		}
	}
	set := func() {
		t.Helper()
		if err := setPort(device); err != nil {
			t.Fatal(err)
		}
	}
	check("learning 1, not 0, neigh_suppress 0, not 1, group_fwd_mask 0, not 65533")
	set()
	check("")
	err := nstest.Run("bridge link set dev wvx-app isolated on flood off",
		"bridge link set dev wvx-app mcast_flood off bcast_flood off")
	if err != nil {
		t.Fatal(err)
	}
	check("isolated 1, not 0, flood 0, not 1, mcast_flood 0, not 1, bcast_flood 0, not 1")
	set()
	check("")
}

func TestUnderlayMTU(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	err := nstest.Run(
		"ip link add wide type bridge", "ip link set wide mtu 9000 up", "ip address add 192.0.2.1/24 dev wide",
		"ip address add 2001:db8::1/64 dev wide nodad",
		"ip link add narrow type bridge", "ip link set narrow mtu 1400 up", "ip address add 198.51.100.1/24 dev narrow",
		"ip address add 203.0.113.1/32 dev lo",
		"ip route add 203.0.113.8/32 via 192.0.2.2 mtu 1300", "ip route add 203.0.113.9/32 via 192.0.2.2",
		"ip -6 route add 2001:db8:9::/64 via 2001:db8::2 mtu 1350",
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, local string
		peers       []string
		want        int
	}{
		{"the link's", "192.0.2.1", nil, 9000},
		{"a peer on the link", "192.0.2.1", []string{"192.0.2.7"}, 9000},
		{"a peer on another link", "192.0.2.1", []string{"192.0.2.7", "198.51.100.7"}, 1400},
		{"a route's", "192.0.2.1", []string{"192.0.2.7", "203.0.113.8"}, 1300},
		{"the address is on lo", "203.0.113.1", []string{"203.0.113.9"}, 9000},
		{"a peer without a route", "192.0.2.1", []string{"100.64.0.1"}, 9000},
		{"IPv6", "2001:db8::1", []string{"2001:db8::7"}, 9000},
		{"an IPv6 route's", "2001:db8::1", []string{"2001:db8:9::1"}, 1350},
	} {
		var peers []netip.Addr
		for _, p := range tt.peers {
			peers = append(peers, netip.MustParseAddr(p))
		}
		if got, err := UnderlayMTU(netip.MustParseAddr(tt.local), peers...); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v, want %d", tt.name, got, err, tt.want)
		}
	}
	_, err = UnderlayMTU(netip.MustParseAddr("192.0.2.77"))
	if err == nil || !strings.Contains(err.Error(), "--cluster-address") {
		t.Errorf("an address that no link has: %v, want an error with --cluster-address", err)
	}
}

func TestOverhead(t *testing.T) {
	for local, want := range map[string]int{"192.0.2.1": 50, "::ffff:192.0.2.1": 50, "2001:db8::1": 70} {
		if got := Overhead(netip.MustParseAddr(local)); got != want {
			t.Errorf("%s: %d, want %d", local, got, want)
		}
	}
}

func mustLink(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestPortIsTaken: an error says which port, or VNI, another program has, and what to do.
func TestPortIsTaken(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	taken, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", udpPort))
	if err != nil {
		t.Fatal(err)
	}
	d := Device{Name: "wvx-1", VNI: vni, Port: udpPort, Local: netip.MustParseAddr("192.0.2.1"), MTU: 1430}
	if err := d.Add(); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(d.Name)
	if err != nil {
		t.Fatal(err)
	}
	wants := func(err error, texts ...string) {
		t.Helper()
		for _, text := range append(texts, "--cluster-port") {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%v, want %q in it", err, text)
			}
		}
	}
	wants(d.Explain(netlink.LinkSetUp(link)), "UDP port 7789")
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	d.Name = "wvx-2"
	wants(d.Add(), "VNI 4711 at UDP port 7789")
}
