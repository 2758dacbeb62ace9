// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/integration/lab"
)

// How long does a container wait for the first answer of one that has just been started on another host? The first ping
// is sent when Docker's answer to the start is there. What it takes longer than the second is what weave has still to
// do then, and what ARP takes. Compared with Docker's overlay.
func BenchmarkClusterFirstPacket(b *testing.B) {
	c := startTwoHosts(b)
	client := c.startOne(b, 0)
	measure := func(what string) {
		first := map[string][]float64{}
		inTurns(20,
			func() float64 { return c.firstPing(b, client, weaveNetwork, first) },
			func() float64 { return c.firstPing(b, client, dockerNetwork, first) })
		x := result{Question: "first ping to a new container", Case: what, Unit: "ms", Against: "overlay"}
		results.add(b, compared(x, first[weaveNetwork], first[dockerNetwork]))
		x.Question = "the slowest of them"
		results.add(b, compared(x, most(first[weaveNetwork]), most(first[dockerNetwork])))
		x = result{Question: "longer than the second one", Case: what + ", weave", Unit: "ms"}
		x.Value, x.Target = median(first[weaveNetwork+longer]), atMost(5)
		results.add(b, x)
		x.Case, x.Value, x.Target = what+", overlay", median(first[dockerNetwork+longer]), nil
		results.add(b, x)
	}
	measure("the first of its host")
	c.startOne(b, 1)
	measure("beside another one")
}

// most returns the largest value of a sample, as a sample.
func most(sample []float64) []float64 { return []float64{slices.Max(sample)} }

// longer is added to a network's name for the difference of the first ping to the second.
const longer = ", longer"

// firstPing starts a container on the second host, pings it twice, removes it, and adds the times in milliseconds to
// found. It returns the first one.
func (c *twoHosts) firstPing(b *testing.B, client, network string, found map[string][]float64) float64 {
	const name = "fresh"
	p := newPinger(b, client)
	defer p.close()
	h := c.all[1]
	h.startContainer(b, name, network)
	to := h.addressOf(b, name, network)
	first, second := p.ping(b, to), p.ping(b, to)
	h.Docker(b, "rm", "-f", name)
	found[network] = append(found[network], first)
	found[network+longer] = append(found[network+longer], first-second)
	return first
}

// How long does it take from Docker's answer to the start of a container until one on another host reaches it by its
// name? Compared with Docker's overlay.
func BenchmarkClusterNames(b *testing.B) {
	c := startTwoHosts(b)
	c.startOne(b, 0)
	client := c.startOne(b, 1)
	n := 0
	reach := func(network string) func() float64 {
		return func() float64 {
			n++
			return c.reachByName(b, client, network, fmt.Sprintf("fresh%d", n))
		}
	}
	took := inTurns(25, reach(weaveNetwork), reach(dockerNetwork))
	x := result{Question: "until a new container is reached by name", Case: "from another host", Unit: "ms"}
	x.Value, x.Target = median(took[0]), atMost(50)
	results.add(b, x)
	x.Against, x.Target = "overlay", nil
	results.add(b, compared(x, took[0], took[1]))
	x.Question = "the slowest of them"
	results.add(b, compared(x, most(took[0]), most(took[1])))
}

// reachByName starts a container on the first host, and returns how many milliseconds later it has answered a ping of
// one on the second host, which has asked for its name until there was an answer.
func (c *twoHosts) reachByName(b *testing.B, client, network, name string) float64 {
	p := newPinger(b, client)
	defer p.close()
	c.all[0].startContainer(b, name, network)
	took := milliseconds(func() { p.ping(b, awaitName(b, client, name)) })
	c.all[0].Docker(b, "rm", "-f", name)
	return took
}

// startContainer is `docker run` without the docker command.
func (e *dockerHost) startContainer(b *testing.B, name, network string) {
	b.Helper()
	e.post(b, "/containers/create?name="+name, map[string]any{
		"Image": lab.Image, "HostConfig": map[string]string{"NetworkMode": network},
	})
	e.post(b, "/containers/"+name+"/start", nil)
}

// pinger sends ICMP echoes from a sandbox.
type pinger struct {
	fd       int
	sequence int
}

func newPinger(b *testing.B, sandbox string) *pinger {
	b.Helper()
	fd, err := socketIn(sandbox, unix.SOCK_RAW, unix.IPPROTO_ICMP, func(int) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	return &pinger{fd: fd}
}

func (p *pinger) close() { unix.Close(p.fd) }

// ping sends an echo, each second again, until it is answered, and returns how many milliseconds that takes.
func (p *pinger) ping(b *testing.B, to netip.Addr) float64 {
	b.Helper()
	p.sequence++
	echo := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 7, Seq: p.sequence}}
	request, err := echo.Marshal(nil)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	for time.Since(start) < 30*time.Second {
		if err := unix.Sendto(p.fd, request, 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
			b.Fatalf("ping %s: %v", to, err)
		}
		if p.isAnswered(b, to) {
			return time.Since(start).Seconds() * 1e3
		}
	}
	b.Fatalf("%s does not answer pings", to)
	return 0
}

// isAnswered waits for the answer to the last echo. It is false when nothing has come for a second.
func (p *pinger) isAnswered(b *testing.B, by netip.Addr) bool {
	b.Helper()
	packet := make([]byte, 1500)
	for {
		n, from, err := unix.Recvfrom(p.fd, packet, 0)
		if errors.Is(err, unix.EINTR) { // by Go's scheduler
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		if err != nil {
			b.Fatalf("ping %s: %v", by, err)
		}
		header, err := ipv4.ParseHeader(packet[:n])
		if err != nil {
			b.Fatal(err)
		}
		answer, err := icmp.ParseMessage(unix.IPPROTO_ICMP, packet[header.Len:n])
		if err != nil {
			b.Fatal(err)
		}
		echo, ok := answer.Body.(*icmp.Echo)
		sender := netip.AddrFrom4(from.(*unix.SockaddrInet4).Addr)
		if ok && answer.Type == ipv4.ICMPTypeEchoReply && echo.Seq == p.sequence && sender == by {
			return true
		}
	}
}

// awaitName asks for a name in a sandbox until it has an address.
func awaitName(b *testing.B, sandbox, name string) netip.Addr {
	b.Helper()
	fd, err := socketIn(sandbox, unix.SOCK_DGRAM, unix.IPPROTO_UDP, func(fd int) error {
		patience := unix.Timeval{Usec: 20_000}
		return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
			unix.Connect(fd, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 11}}))
	})
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	question := dnsmessage.Message{
		Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		},
	}
	request, err := question.Pack()
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1500)
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(time.Millisecond) {
		if _, err := unix.Write(fd, request); err != nil {
			b.Fatal(err)
		}
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		var m dnsmessage.Message
		if err = errors.Join(err, m.Unpack(buf[:max(n, 0)])); err != nil {
			b.Fatal(err)
		}
		for _, r := range m.Answers {
			if a, ok := r.Body.(*dnsmessage.AResource); ok {
				return netip.AddrFrom4(a.A)
			}
		}
	}
	b.Fatalf("nobody knows %s", name)
	return netip.Addr{}
}
