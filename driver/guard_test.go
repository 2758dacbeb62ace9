// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestRouterAdvertisements: a container that floods router advertisements gives its neighbours no address, unless it is
// a router or the network allows it. What a container's owner wants of them stays as it is.
func TestRouterAdvertisements(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*NetworkSpec, *EndpointSpec)
		arrives bool
	}{
		"by default":               {func(*NetworkSpec, *EndpointSpec) {}, false},
		"under the host's rules":   {func(nw *NetworkSpec, _ *EndpointSpec) { nw.Firewall = FirewallHost }, false},
		"on somebody's own bridge": {func(nw *NetworkSpec, _ *EndpointSpec) { nw.Bridge = "br-own" }, false},
		"without IPv6":             {func(nw *NetworkSpec, _ *EndpointSpec) { nw.Pools = nw.Pools[:1] }, false},
		"from a router":            {func(_ *NetworkSpec, ep *EndpointSpec) { ep.Router = true }, true},
		"without the guard":        {func(nw *NetworkSpec, _ *EndpointSpec) { nw.Guard = GuardOff }, true},
	} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			r := newRig(t)
			mustRun(t, "ip link add br-own type bridge")
			mustRun(t, "ip link set br-own up")
			spec, sender := newNetwork(netID), newEndpoint(netID, 1)
			tt.change(&spec, &sender)
			sender.Addresses = sender.Addresses[:1]
			r.createNetwork(spec)
			if _, err := r.CreateEndpoint(t.Context(), sender); err != nil {
				t.Fatal(err)
			}
			hostile, victim := nstest.New(t), nstest.New(t)
			r.attach(sender.ID, hostile, "eth0")
			receiver := newEndpoint(netID, 2)
			receiver.Addresses = receiver.Addresses[:1]
			if _, err := r.CreateEndpoint(t.Context(), receiver); err != nil {
				t.Fatal(err)
			}
			r.attach(receiver.ID, victim, "eth0")
			if got := acceptsRA(t, victim); got != "1" {
				t.Errorf("accept_ra is %s, want the kernel's 1", got)
			}

			awaitPath(t, hostile, victim)

			// Frames arrive in the order in which they are sent: once the victim has seen the last one, which is of
			// another kind, it has seen all that will come.
			marks := listenFor(t, victim, markProtocol)
			hostile.Do(t, func() error {
				link := mustLink(t, "eth0")
				for _, frame := range advertisements() {
					if err := sendFrame(link, frame); err != nil {
						return err
					}
				}
				return sendFrame(link, markFrame())
			})
			awaitFrame(t, marks)
			if got := advertisedRoutes(t, victim); got != tt.arrives {
				t.Errorf("the victim has a route from a router advertisement: %v, want %v", got, tt.arrives)
			}
		})
	}
}

// advertisements are router advertisements in the forms in which they could get past a guard.
func advertisements() [][]byte {
	plain := routerAdvertisement([6]byte{0x33, 0x33, 0, 0, 0, 1})
	tag := []byte{0x81, 0x00, 0x00, 0x00}
	tagged := append(append(append([]byte{}, plain[:12]...), tag...), plain[12:]...)
	twice := append(append(append([]byte{}, tagged[:12]...), tag...), tagged[12:]...)
	options := append([]byte{}, plain[:14+40]...) // destination options before the message
	options[14+5] += 8
	options[14+6] = unix.IPPROTO_DSTOPTS
	options = append(options, unix.IPPROTO_ICMPV6, 0, 1, 4, 0, 0, 0, 0)
	options = append(options, plain[14+40:]...)
	within := append([]byte{}, twice...) // a tag of its own around one with id 0
	within[15] = 7
	return [][]byte{plain, tagged, twice, options, within}
}

// awaitPath waits until frames arrive: the kernel lets a port forward a moment after its carrier has come up.
func awaitPath(t *testing.T, from, to *nstest.NS) {
	t.Helper()
	frames := listenFor(t, to, markProtocol)
	eventually(t, "a frame arrives", func() bool {
		from.Do(t, func() error { return sendFrame(mustLink(t, "eth0"), markFrame()) })
		n, _, err := unix.Recvfrom(frames, make([]byte, 100), unix.MSG_DONTWAIT)
		return err == nil && n > 0
	})
}

// markProtocol is an EtherType for experiments (IEEE 802).
const markProtocol = 0x88b5

func markFrame() []byte {
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, markProtocol >> 8, markProtocol & 0xff}
	return append(frame, make([]byte, 46)...)
}

// listenFor returns a packet socket for frames of a protocol that arrive in a namespace.
func listenFor(t *testing.T, ns *nstest.NS, protocol uint16) int {
	t.Helper()
	fd := -1
	ns.Do(t, func() (err error) {
		fd, err = packetSocket(protocol)
		return err
	})
	return prepared(t, fd)
}

// listenOn returns a packet socket for the frames that arrive at a link of the host's.
func listenOn(t *testing.T, link string) int {
	t.Helper()
	fd, err := packetSocket(markProtocol)
	if err != nil {
		t.Fatal(err)
	}
	all := &unix.SockaddrLinklayer{Protocol: bigEndian(markProtocol), Ifindex: mustLink(t, link).Attrs().Index}
	if err := unix.Bind(fd, all); err != nil {
		t.Fatal(err)
	}
	return prepared(t, fd)
}

func bigEndian(n uint16) uint16 { return n>>8 | n<<8 }

func packetSocket(protocol uint16) (int, error) {
	return unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(bigEndian(protocol)))
}

// prepared has a packet socket tell of VLAN tags, and give up after a while.
func prepared(t *testing.T, fd int) int {
	t.Helper()
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		t.Fatal(err)
	}
	return fd
}

// awaitFrame returns the next frame of a packet socket, and whether it had a VLAN tag.
func awaitFrame(t *testing.T, fd int) (frame []byte, tagged bool) {
	t.Helper()
	frame, aux := make([]byte, 2048), make([]byte, 256)
	n, auxn, _, _, err := unix.Recvmsg(fd, frame, aux, 0)
	if err != nil {
		t.Fatalf("wait for a frame: %v", err)
	}
	messages, err := unix.ParseSocketControlMessage(aux[:auxn])
	if err != nil || len(messages) != 1 {
		t.Fatalf("auxiliary data of a frame: %v, %v", messages, err)
	}
	return frame[:n], messages[0].Data[0]&unix.TP_STATUS_VLAN_VALID != 0
}

func acceptsRA(t *testing.T, ns *nstest.NS) (value string) {
	t.Helper()
	ns.Do(t, func() error {
		b, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/accept_ra")
		value = strings.TrimSpace(string(b))
		return err
	})
	return value
}

func advertisedRoutes(t *testing.T, ns *nstest.NS) (found bool) {
	t.Helper()
	ns.Do(t, func() error {
		advertised := &netlink.Route{Protocol: unix.RTPROT_RA}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, advertised, netlink.RT_FILTER_PROTOCOL)
		found = len(routes) > 0
		return err
	})
	return found
}

// TestHostReceivesNothing: what a container sends to everybody reaches no socket of the host, even where routing would
// not keep it off: from the address 0.0.0.0 it is not checked.
func TestHostReceivesNothing(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	r.attach(id, sandbox, "eth0")
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 6767})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sandbox.Do(t, func() error {
		link := mustLink(t, "eth0")
		for _, to := range []string{"255.255.255.255", "224.0.0.1", "10.40.255.255"} {
			for _, from := range []string{"0.0.0.0", "10.40.0.2"} {
				frame := datagram(netip.MustParseAddr(from), netip.MustParseAddr(to), 6767)
				if err := sendFrame(link, frame); err != nil {
					return err
				}
			}
		}
		return nil
	})
	// The host's own datagram comes after those of the container, if they come.
	own, err := net.Dial("udp4", "127.0.0.1:6767")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if _, err := own.Write([]byte("own")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	n, from, err := conn.ReadFrom(buffer)
	if err != nil || string(buffer[:n]) != "own" {
		t.Errorf("the host received %q from %v (%v)", buffer[:n], from, err)
	}
}

// datagram is a broadcast frame with a UDP datagram.
func datagram(from, to netip.Addr, port uint16) []byte {
	header := []byte{0x45, 0, 0, 36, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	header = append(append(header, from.AsSlice()...), to.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(header); i += 2 {
		sum += uint32(header[i])<<8 | uint32(header[i+1])
	}
	sum = sum>>16 + sum&0xffff
	header[10], header[11] = byte(^sum>>8), byte(^sum)
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0}, header...)
	frame = append(frame, byte(port>>8), byte(port), byte(port>>8), byte(port), 0, 16, 0, 0)
	return append(frame, "anything"...)
}

// TestContainersSeeNoTag: a packet socket in a container sees the frames as they were sent, so that DHCP clients and
// virtual machines in containers work; a tag that a container has set itself arrives.
func TestContainersSeeNoTag(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	c := newTwoContainers(t, newNetwork(netID))
	awaitPath(t, c.one, c.two)
	own := markFrame()
	ownTag := append(append(append([]byte{}, own[:12]...), 0x81, 0x00, 0x00, 0x07), own[12:]...)
	for name, tt := range map[string]struct {
		sent   []byte
		tagged bool
	}{"untagged": {own, false}, "its own VLAN": {ownTag, true}} {
		t.Run(name, func(t *testing.T) {
			frames := listenFor(t, c.two, unix.ETH_P_ALL)
			c.one.Do(t, func() error { return sendFrame(mustLink(t, "eth0"), tt.sent) })
			for {
				frame, tagged := awaitFrame(t, frames)
				if len(frame) < 14 || frame[12] != 0x88 || frame[13] != 0xb5 {
					continue // of the kernel's own
				}
				if tagged != tt.tagged {
					t.Errorf("with a tag: %v, want %v", tagged, tt.tagged)
				}
				return
			}
		})
	}
}

// TestSnoopingSeesGroups: the bridge learns from tagged frames, too, who has joined a multicast group.
func TestSnoopingSeesGroups(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	c := newTwoContainers(t, newNetwork(netID))
	for _, group := range []string{"239.1.2.3", "ff0e::123"} {
		var conn *net.UDPConn
		c.one.Do(t, func() (err error) {
			link, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			conn, err = net.ListenMulticastUDP("udp", link, &net.UDPAddr{IP: net.ParseIP(group), Port: 4000})
			return err
		})
		defer conn.Close()
		eventually(t, "the bridge knows who is in "+group, func() bool {
			entries, err := exec.Command("bridge", "mdb", "show").Output()
			return err == nil && strings.Contains(string(entries), "grp "+group+" ")
		})
	}
}
