// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/integration/lab"
)

// How fast is the traffic from a container to the outside, through NAT? Compared with Docker's bridge network, from the
// same container, with the gateway of one or the other.
func BenchmarkWayOut(b *testing.B) {
	outside := netip.MustParsePrefix("192.0.2.1/24")
	underlay := lab.NewUnderlay(b, outside)
	e := startDockerHostWith(b, lab.Options{
		Name: "docker", Root: "/", Underlay: underlay, Address: netip.MustParsePrefix("192.0.2.10/24"),
	})
	e.addNetworks(b)
	var ways []wayOut
	for _, driver := range drivers {
		network := networkName(driver, false)
		e.Run(b, "--network", network, "--name", driver)
		key := e.sandboxOf(b, driver)
		ways = append(ways, wayOut{sandbox: key, network: network, underlay: underlay})
	}
	for _, measure := range []struct {
		question, unit string
		rounds         int
		run            func(*testing.B, wayOut) float64
		target         *target
	}{
		{"throughput to the outside, TCP", "Gbit/s", 30, e.throughputOut, atLeast(0.97)},
		{"round trip to the outside, UDP", "µs", 40, e.roundTripOut, atMost(1.03)},
	} {
		found := inTurnsOn(b, measure.rounds, measure.run, ways)
		x := result{Question: measure.question, Case: "with a gateway of its own", Unit: measure.unit,
			Against: "bridge", Target: measure.target}
		results.add(b, compared(x, found[0], found[1]))
	}
}

// wayOut is the way of a container on a network to the underlay.
type wayOut struct {
	sandbox, network string
	underlay         *lab.Underlay
}

// throughputOut is throughput to the outside.
func (e *dockerHost) throughputOut(b *testing.B, w wayOut) float64 {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	return received(b, w.underlay.Command(ctx, iperfServer[0], iperfServer[1:]...),
		inSandbox(ctx, e.Path(w.sandbox), iperfClient(w.underlay.Address(), byTCP)...))
}

// roundTripOut is roundTrip to the outside, where the container has another address.
func (e *dockerHost) roundTripOut(b *testing.B, w wayOut) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const datagrams = 5000
	to := netip.AddrPortFrom(w.underlay.Address(), 5203)
	there, err := socketIn(w.underlay.Path(), unix.SOCK_DGRAM, unix.IPPROTO_UDP, func(fd int) error {
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	})
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(there)
	here, err := socketIn(e.Path(w.sandbox), unix.SOCK_DGRAM, unix.IPPROTO_UDP, func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	})
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(here)
	buffer := make([]byte, 64)
	sample := make([]float64, datagrams)
	for i := range sample {
		start := time.Now()
		if _, err := unix.Write(here, buffer); err != nil {
			b.Fatalf("send to the outside: %v", err)
		}
		_, from, err := unix.Recvfrom(there, buffer, 0)
		if err != nil {
			b.Fatalf("receive outside: %v", err)
		}
		if err := unix.Sendto(there, buffer, 0, from); err != nil {
			b.Fatalf("answer from outside: %v", err)
		}
		if _, err := unix.Read(here, buffer); err != nil {
			b.Fatalf("receive from outside: %v", err)
		}
		sample[i] = time.Since(start).Seconds() * 1e6
	}
	return median(sample)
}
