// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/integration/lab"
)

// handMade is a script that makes a network by hand between two sandboxes, its arguments: a bridge, veth pairs, and a
// firewall rule as weave has for its networks.
const handMade = `
ip link add hand type bridge
ip link set hand up
for i in 1 2; do
	ip link add hand$i type veth peer name hand netns $1
	ip link set hand$i master hand up
	nsenter --net=$1 ip address add 10.200.0.$i/24 dev hand
	nsenter --net=$1 ip link set hand up
	shift
done
iptables -I FORWARD 2 -i hand -o hand -j ACCEPT
`

// How fast is the traffic between two containers on a network? Compared with a bridge and veth pairs made by hand, with
// Docker's bridge network, and with a weave network whose frames pass the host's rules. All of them connect the same
// two containers, because Docker's rules in a sandbox cost time, too.
func BenchmarkTraffic(b *testing.B) {
	e := startDockerHost(b, "/") // has iperf3
	e.addNetworks(b)
	const hostRules = "hostrules"
	e.CreateNetwork(b, hostRules, "-d", "weave", "--internal", "-o", "works.weave.firewall=host")
	sandboxes := e.startPair(b, networkName("weave", false))
	for _, c := range pair {
		e.Docker(b, "network", "connect", networkName("bridge", false), c)
		e.Docker(b, "network", "connect", hostRules, c)
	}
	e.Exec(b, "sh", "-ec", handMade, "sh", sandboxes[0], sandboxes[1])

	paths := []*path{
		e.newPath(b, sandboxes, e.addressesOn(b, networkName("weave", false))),
		e.newPath(b, sandboxes, [2]netip.Addr{netip.MustParseAddr("10.200.0.1"), netip.MustParseAddr("10.200.0.2")}),
		e.newPath(b, sandboxes, e.addressesOn(b, networkName("bridge", false))),
		e.newPath(b, sandboxes, e.addressesOn(b, hostRules)),
	}
	for _, measure := range []struct {
		question, unit string
		rounds         int
		run            func(*testing.B, *path) float64
		target         *target
	}{
		{"throughput, TCP", "Gbit/s", 30, throughput, atLeast(0.97)},
		{"round trip, UDP", "µs", 40, roundTrip, atMost(1.03)},
	} {
		found := inTurnsOn(b, measure.rounds, measure.run, paths)
		x := result{Question: measure.question, Case: "two containers of one host", Unit: measure.unit}
		x.Against, x.Target = "by hand", measure.target
		results.add(b, compared(x, found[0], found[1]))
		x.Against, x.Target = "bridge", nil
		results.add(b, compared(x, found[0], found[2]))
		x.Against = "firewall=host"
		results.add(b, compared(x, found[0], found[3]))
	}
}

// pair are the names of the two containers.
var pair = [2]string{"one", "two"}

// startPair starts the two containers on a network and returns the paths of their sandboxes on the host.
func (e *dockerHost) startPair(b *testing.B, network string) (sandboxes [2]string) {
	b.Helper()
	for i, c := range pair {
		e.Run(b, "--name", c, "--network", network)
		sandboxes[i] = e.sandboxOf(b, c)
	}
	return sandboxes
}

// sandboxOf returns the path of a container's sandbox on the host.
func (e *dockerHost) sandboxOf(b *testing.B, container string) string {
	b.Helper()
	key := e.Docker(b, "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container)
	return strings.Replace(key, "/var/run/", "/run/", 1)
}

// addressesOn returns the addresses of the two containers on a network.
func (e *dockerHost) addressesOn(b *testing.B, network string) (addresses [2]netip.Addr) {
	b.Helper()
	for i, c := range pair {
		format := fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", network)
		text := e.Docker(b, "inspect", "-f", format, c)
		address, err := netip.ParseAddr(text)
		if err != nil {
			b.Fatalf("address of %s on %s: %v", c, network, err)
		}
		addresses[i] = address
	}
	return addresses
}

// path is a way for traffic from one sandbox to another.
type path struct {
	sandboxes [2]string // paths on this machine
	addresses [2]netip.Addr
	sockets   [2]int // UDP, connected to each other
}

// newPath returns a path between two sandboxes of the host, with its sockets open until the end of b.
func (e *dockerHost) newPath(b *testing.B, sandboxes [2]string, addresses [2]netip.Addr) *path {
	b.Helper()
	return newPath(b, [2]string{e.Path(sandboxes[0]), e.Path(sandboxes[1])}, addresses)
}

// newPath returns a path between two sandboxes, with its sockets open until the end of b.
func newPath(b *testing.B, sandboxes [2]string, addresses [2]netip.Addr) *path {
	b.Helper()
	p := &path{sandboxes: sandboxes, addresses: addresses}
	for i, sandbox := range sandboxes {
		fd, err := udpSocket(sandbox, addresses[i], addresses[1-i])
		if err != nil {
			b.Fatalf("open a socket in %s: %v", sandbox, err)
		}
		b.Cleanup(func() { unix.Close(fd) })
		p.sockets[i] = fd
	}
	return p
}

// udpSocket opens a UDP socket in a network namespace, bound to one address and connected to the other.
func udpSocket(namespace string, from, to netip.Addr) (fd int, err error) {
	const port = 5202 // beside iperf3's
	return socketIn(namespace, unix.SOCK_DGRAM, unix.IPPROTO_UDP, func(fd int) error {
		return errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: from.As4()}),
			unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: to.As4()}))
	})
}

// socketIn opens an IPv4 socket in a network namespace and sets it up. It waits for a packet no longer than a second.
func socketIn(namespace string, typ, protocol int, setUp func(fd int) error) (fd int, err error) {
	err = lab.Inside(namespace, func() error {
		if fd, err = unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, protocol); err != nil {
			return err
		}
		timeout := unix.Timeval{Sec: 1}
		return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout), setUp(fd))
	})
	return fd, err
}

// roundTrip returns the median time of a round trip in microseconds. One thread sends and receives on both sides, so
// that the scheduler is not part of it.
func roundTrip(b *testing.B, p *path) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const datagrams = 5000
	buffer := make([]byte, 64)
	sample := make([]float64, datagrams)
	for i := range sample {
		start := time.Now()
		for side := range p.sockets {
			if _, err := unix.Write(p.sockets[side], buffer); err != nil {
				b.Fatalf("send to %s: %v", p.addresses[1-side], err)
			}
			if _, err := unix.Read(p.sockets[1-side], buffer); err != nil {
				b.Fatalf("receive from %s: %v", p.addresses[side], err)
			}
		}
		sample[i] = time.Since(start).Seconds() * 1e6
	}
	return median(sample)
}

// byTCP are the arguments of an iperf3 client that sends over a TCP connection.
var byTCP = []string{"--bytes", "512M"}

// throughput returns the throughput of a TCP connection in Gbit/s. Single runs differ much, depending on the
// processors on which the two ends run, so many short runs are better than few long ones.
func throughput(b *testing.B, p *path) float64 { return transfer(b, p, byTCP) }

// transfer returns the rate at which iperf3 receives, in Gbit/s, when its client is run with these arguments.
func transfer(b *testing.B, p *path, args []string) float64 {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	return received(b, inSandbox(ctx, p.sandboxes[1], iperfServer...),
		inSandbox(ctx, p.sandboxes[0], iperfClient(p.addresses[1], args)...))
}

var iperfServer = []string{"iperf3", "--server", "--one-off", "--forceflush"}

func iperfClient(to netip.Addr, args []string) []string {
	return append([]string{"iperf3", "--client", to.String(), "--json"}, args...)
}

// inSandbox returns a command of this machine's that runs in a sandbox, by its path on this machine.
func inSandbox(ctx context.Context, sandbox string, command ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + sandbox, "--"}, command...)...)
}

// received starts an iperf3 server, runs a client, and returns the rate at which the server receives, in Gbit/s.
func received(b *testing.B, server, client *exec.Cmd) float64 {
	listens, err := server.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Wait() }() // the client has judged the transfer
	ready := false
	lines := bufio.NewScanner(listens)
	for !ready && lines.Scan() {
		ready = strings.HasPrefix(lines.Text(), "Server listening")
	}
	if !ready {
		b.Fatal("iperf3 --server ended")
	}
	go func() { _, _ = io.Copy(io.Discard, listens) }() // the rest of its report, until it ends
	out, err := client.Output()
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err = errors.Join(err, json.Unmarshal(out, &report)); err != nil || report.End.Received.Rate == 0 {
		b.Fatalf("iperf3: %v: %s", err, out)
	}
	return report.End.Received.Rate / 1e9
}
