// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// handMadeMTU is that of the network made by hand: what weave's networks and Docker's overlay have, too.
const handMadeMTU = 1450

// handMadeVXLAN is a script that makes one side of a network by hand between two sandboxes: a veth pair, a bridge, and
// a VXLAN device with fixed entries for the other side. Its arguments: the sandbox, the number of this side and of the
// other, their addresses on the underlay, the MTU, and the name of the link in the sandbox with its address there.
const handMadeVXLAN = `
ip link add hand type bridge
ip link add hand-x mtu $6 type vxlan id 9 dstport 6785 local $4 nolearning
ip link set hand-x master hand up
ip link add hand-p mtu $6 type veth peer name $7 mtu $6 address 02:00:00:00:00:0$2 netns $1
ip link set hand-p master hand up
ip link set hand up
bridge fdb append 00:00:00:00:00:00 dev hand-x dst $5 self permanent
bridge fdb add 02:00:00:00:00:0$3 dev hand-x dst $5 self permanent
bridge fdb add 02:00:00:00:00:0$3 dev hand-x master static
nsenter --net=$1 ip address add $8/24 dev $7
nsenter --net=$1 ip link set $7 up
`

// handMadeRule lets the frames of a network made by hand pass Docker's rules, which drop what they don't know where the
// host's rules apply to bridges.
const handMadeRule = `iptables -I FORWARD -i hand -o hand -j ACCEPT`

// How fast is the traffic between two containers of two hosts? Compared with a VXLAN made by hand, on hosts without
// Docker and without a firewall rule; with another one on the hosts that Docker is on, whose rules and tracking of
// connections it passes as weave's packets do; and with Docker's overlay. All of them connect the same two containers,
// because Docker's rules in a sandbox cost time, too.
func BenchmarkClusterTraffic(b *testing.B) {
	c := startTwoHosts(b)
	sandboxes := [2]string{c.startOne(b, 0), c.startOne(b, 1)}
	bare := c.makeByHand(b, sandboxes)
	besideDocker := c.makeByHandBesideDocker(b, sandboxes)
	var paths []*path
	for _, addresses := range [][2]netip.Addr{
		c.addressesOn(b, weaveNetwork), bare, besideDocker, c.addressesOn(b, dockerNetwork),
	} {
		checkMTU(b, sandboxes[0], addresses[0])
		paths = append(paths, newPath(b, sandboxes, addresses))
	}
	for _, measure := range []struct {
		question, unit string
		rounds         int
		run            func(*testing.B, *path) float64
		byHand, docker *target
	}{
		{"throughput, TCP", "Gbit/s", 30, throughput, atLeast(0.97), atLeast(1)},
		{"throughput, UDP", "Gbit/s", 30, throughputByUDP, atLeast(0.97), atLeast(1)},
		{"round trip, UDP", "µs", 40, roundTrip, atMost(1.03), atMost(1)},
		{"round trip, ping", "µs", 20, pingTime, atMost(1.03), atMost(1)},
	} {
		found := inTurnsOn(b, measure.rounds, measure.run, paths)
		x := result{Question: measure.question, Case: "containers of two hosts", Unit: measure.unit}
		x.Against, x.Target = "by hand", measure.byHand
		results.add(b, compared(x, found[0], found[1]))
		x.Against, x.Target = "by hand beside Docker", nil
		results.add(b, compared(x, found[0], found[2]))
		x.Against, x.Target = "overlay", measure.docker
		results.add(b, compared(x, found[0], found[3]))
	}
}

// makeByHand makes a network by hand on two hosts without Docker and returns its addresses in the sandboxes.
func (c *twoHosts) makeByHand(b *testing.B, sandboxes [2]string) [2]netip.Addr {
	b.Helper()
	var bare [2]*lab.Host
	var underlay [2]netip.Addr
	for i := range bare {
		bare[i] = lab.Start(b, lab.Options{
			Name: fmt.Sprintf("bare%d", i+1), Root: "/", NoDocker: true, Underlay: c.underlay,
			Address: onUnderlay(byte(21 + i)),
		})
		underlay[i] = onUnderlay(byte(21 + i)).Addr()
	}
	return connectByHand(b, bare, underlay, sandboxes, "hand", "10.200.0")
}

// makeByHandBesideDocker makes another one on the hosts of the cluster.
func (c *twoHosts) makeByHandBesideDocker(b *testing.B, sandboxes [2]string) [2]netip.Addr {
	b.Helper()
	var hosts [2]*lab.Host
	var underlay [2]netip.Addr
	for i, h := range c.all {
		hosts[i], underlay[i] = h.Host, onUnderlay(byte(11+i)).Addr()
		h.Exec(b, "sh", "-ec", handMadeRule)
	}
	return connectByHand(b, hosts, underlay, sandboxes, "hand2", "10.201.0")
}

// connectByHand runs handMadeVXLAN on two hosts and returns the addresses in the sandboxes, which begin with subnet.
func connectByHand(b *testing.B, hosts [2]*lab.Host, underlay [2]netip.Addr, sandboxes [2]string, link, subnet string) (
	addresses [2]netip.Addr,
) {
	b.Helper()
	for i, h := range hosts {
		addresses[i] = netip.MustParseAddr(fmt.Sprintf("%s.%d", subnet, i+1))
		cmd := exec.CommandContext(b.Context(), "nsenter", "-t", strconv.Itoa(h.PID()), "-n", "--",
			"sh", "-ec", handMadeVXLAN, "sh", sandboxes[i], strconv.Itoa(i+1), strconv.Itoa(2-i),
			underlay[i].String(), underlay[1-i].String(), strconv.Itoa(handMadeMTU), link, addresses[i].String())
		output(b, cmd)
	}
	return addresses
}

// checkMTU fails b if the link with an address in a sandbox has another MTU than the network made by hand.
func checkMTU(b *testing.B, sandbox string, address netip.Addr) {
	b.Helper()
	const script = `ip -o link show "$(ip -o address show to $0 | cut -d' ' -f2)"`
	out := output(b, inSandbox(b.Context(), sandbox, "sh", "-ec", script, address.String()))
	if want := fmt.Sprintf(" mtu %d ", handMadeMTU); !strings.Contains(out, want) {
		b.Fatalf("%s: %s, want%sas the network made by hand has it", address, out, want)
	}
}

// output runs a command and returns its output. It fails b if the command fails.
func output(b *testing.B, cmd *exec.Cmd) string {
	b.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// byUDP are the arguments of an iperf3 client that sends datagrams as fast as it can, each of which fits a packet.
var byUDP = []string{"--udp", "--bitrate", "0", "--length", "1400", "--bytes", "64M"}

func throughputByUDP(b *testing.B, p *path) float64 { return transfer(b, p, byUDP) }

var pingLine = regexp.MustCompile(`time=([0-9.]+) ms`)

// pingTime returns the median time of an ICMP echo in microseconds.
func pingTime(b *testing.B, p *path) float64 {
	out := output(b, inSandbox(b.Context(), p.sandboxes[0], "ping", "-n", "-i", "0.001", "-c", "500",
		p.addresses[1].String()))
	var sample []float64
	for _, found := range pingLine.FindAllStringSubmatch(out, -1) {
		ms, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		sample = append(sample, ms*1e3)
	}
	if len(sample) < 500 {
		b.Fatalf("%d of 500 pings to %s were answered", len(sample), p.addresses[1])
	}
	return median(sample)
}
