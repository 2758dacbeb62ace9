package firewall

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

const deadline = 15 * time.Second // of what a test waits for; less than fullInterval, which would hide a deaf Run

// run runs a command in the namespace of this process, and returns its output.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stderr = io.Discard
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return string(out)
}

// families are the IPv4 and the IPv6 command of a back end.
func families(backend string) []string {
	return []string{"iptables-" + backend, "ip6tables-" + backend}
}

// startEngine makes the chains that an Engine (28) makes.
func startEngine(t *testing.T, backend string) {
	t.Helper()
	for _, cmd := range families(backend) {
		run(t, `*filter
:FORWARD DROP
:DOCKER-USER -
:DOCKER-FORWARD -
-A DOCKER-USER -j RETURN
-I FORWARD -j DOCKER-FORWARD
-I FORWARD -j DOCKER-USER
COMMIT
`, cmd+"-restore", "--noflush")
	}
}

// stopEngine removes them again, as a reboot into the other back end does.
func stopEngine(t *testing.T, backend string) {
	t.Helper()
	for _, cmd := range families(backend) {
		run(t, `*filter
-D FORWARD -j DOCKER-FORWARD
-D FORWARD -j DOCKER-USER
-F DOCKER-USER
-X DOCKER-USER
-X DOCKER-FORWARD
COMMIT
`, cmd+"-restore", "--noflush")
	}
}

// forward lists the rules of FORWARD.
func forward(t *testing.T, cmd string) []string {
	t.Helper()
	return lines(run(t, "", cmd, "-S", "FORWARD"))[1:]
}

// assertRules fails the test unless each family of a back end has exactly these rules of state "aa", by bridge.
func assertRules(t *testing.T, backend string, bridges ...string) {
	t.Helper()
	for _, cmd := range families(backend) {
		if got := ruleBridges(forward(t, cmd)); !slices.Equal(got, bridges) {
			t.Errorf("%s has rules for %q, want %q", cmd, got, bridges)
		}
	}
}

// ruleBridges are the bridges that a chain has rules of state "aa" for, sorted, with repetitions.
func ruleBridges(chain []string) []string {
	var bridges []string
	for _, r := range chain {
		if args := splitRule(r); (owner{stateID: "aa"}).owns(args) {
			bridges = append(bridges, option(args, "-i"))
		}
	}
	slices.Sort(bridges)
	return bridges
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", deadline, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// newFirewall makes a Firewall of state "aa", and records what it logs.
func newFirewall(t *testing.T) (*Firewall, *test.Hook) {
	t.Helper()
	log, hook := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	f, err := New(Options{StateID: "aa", Log: logrus.NewEntry(log)})
	if err != nil {
		t.Fatal(err)
	}
	return f, hook
}

// start runs Run until the test ends, and fails the test if it doesn't end cleanly.
func start(t *testing.T, f *Firewall) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(deadline):
			t.Error("Run does not end with its context")
		}
	})
}

// wire is a bridge with two ports; behind each is a namespace of its own.
type wire struct {
	cmds      []string // the back end's, IPv4 and IPv6
	sender    *nstest.NS
	receivers map[string]*net.UDPConn // in the second namespace, by kind of traffic
}

const port = 7777

// destinations are where the sender sends for each kind of traffic.
var destinations = map[string]string{
	"IPv4": "10.99.0.2", "IPv6": "fd99::2", "broadcast": "10.99.0.255", "IPv4 multicast": "239.1.2.3", "IPv6 multicast": "ff15::1234%eth0",
}

// newWire makes the bridge in the namespace of this process, with br_netfilter handing its frames to the back end, and
// has the back end count what comes to the end of FORWARD.
func newWire(t *testing.T, backend, bridge string) *wire {
	t.Helper()
	w := &wire{cmds: families(backend), sender: nstest.New(t), receivers: map[string]*net.UDPConn{}}
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		if err := os.WriteFile("/proc/sys/net/bridge/"+name, []byte("1"), 0); err != nil {
			t.Skipf("needs br_netfilter: %v", err)
		}
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	must(t, netlink.LinkAdd(br))
	must(t, netlink.LinkSetUp(br))
	receiver := nstest.New(t)
	for i, ns := range []*nstest.NS{w.sender, receiver} {
		w.attach(t, br, ns, i+1)
	}
	receiver.Do(t, func() error { return w.listen() })
	for _, cmd := range w.cmds {
		run(t, "", cmd, "-A", "FORWARD", "-m", "comment", "--comment", "refused")
	}
	return w
}

func (w *wire) attach(t *testing.T, br netlink.Link, ns *nstest.NS, number int) {
	t.Helper()
	host := fmt.Sprintf("port%d", number)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: host, MasterIndex: br.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.FD())}
	must(t, netlink.LinkAdd(veth))
	must(t, netlink.LinkSetUp(veth))
	ns.Do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, prefix := range []string{"10.99.0.%d/24", "fd99::%d/64"} {
			addr, err := netlink.ParseAddr(fmt.Sprintf(prefix, number))
			if err != nil {
				return err
			}
			if addr.IP.To4() == nil {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(eth0, addr); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(224, 0, 0, 0), Mask: net.CIDRMask(4, 32)}})
	})
}

// listen opens the receivers. A socket stays in the namespace in which it was opened.
func (w *wire) listen() error {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	for i, kind := range kinds() {
		ip := net.ParseIP(strings.TrimSuffix(destinations[kind], "%eth0"))
		var conn *net.UDPConn
		switch {
		case ip.IsMulticast():
			conn, err = net.ListenMulticastUDP("udp", eth0, &net.UDPAddr{IP: ip, Port: port + i})
		default:
			conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: ip, Port: port + i})
		}
		if err != nil {
			return fmt.Errorf("listen for %s: %w", kind, err)
		}
		w.receivers[kind] = conn
	}
	return nil
}

func kinds() []string {
	return []string{"IPv4", "IPv6", "broadcast", "IPv4 multicast", "IPv6 multicast"}
}

// passes tells if traffic of a kind arrives. It sends until something comes, or the kernel has counted refused packets.
func (w *wire) passes(t *testing.T, kind string) bool {
	t.Helper()
	conn := w.receivers[kind]
	drain(conn)
	var sender net.Conn
	w.sender.Do(t, func() (err error) {
		sender, err = (&net.Dialer{}).Dial("udp", fmt.Sprintf("[%s]:%d", destinations[kind], port+slices.Index(kinds(), kind)))
		return err
	})
	defer sender.Close()
	refused := w.refused(t)
	arrived := false
	eventually(t, kind+" traffic arrives or is refused", func() bool {
		_, err := sender.Write([]byte("x"))
		if err != nil {
			return false // an earlier packet was answered with an ICMP error
		}
		conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _, err = conn.ReadFrom(make([]byte, 1))
		arrived = err == nil
		return arrived || w.refused(t) > refused+2
	})
	return arrived
}

// drain throws away what arrived before.
func drain(conn *net.UDPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		for {
			if _, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_DONTWAIT); err != nil {
				return
			}
		}
	})
}

// refused counts the packets that came to the end of FORWARD or were dropped in DOCKER-USER.
func (w *wire) refused(t *testing.T) int {
	t.Helper()
	n := 0
	for _, cmd := range w.cmds {
		for _, line := range lines(run(t, "", cmd, "-v", "-S")) {
			if strings.Contains(line, "refused") {
				var packets int
				if _, err := fmt.Sscanf(line[strings.Index(line, " -c "):], " -c %d", &packets); err != nil {
					t.Fatalf("no counter in %q: %v", line, err)
				}
				n += packets
			}
		}
	}
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
