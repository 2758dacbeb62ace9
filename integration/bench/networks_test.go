// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
)

// many is the number of networks besides the first.
const many = 50

// Does a network get slower with the number of other networks on the host? The oldest of many is compared with the
// newest.
func BenchmarkManyNetworks(b *testing.B) {
	e := startDockerHost(b, "/")
	names := make([]string, many+1)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
		e.CreateNetwork(b, names[i], "-d", "weave", "--ipam-driver", "weave", "--internal")
	}
	sandboxes := e.startPair(b, names[0])
	for _, c := range pair {
		e.Docker(b, "network", "connect", names[many], c)
	}
	oldest := e.newPath(b, sandboxes, e.addressesOn(b, names[0]))
	newest := e.newPath(b, sandboxes, e.addressesOn(b, names[many]))
	found := inTurns(20, func() float64 { return roundTrip(b, oldest) }, func() float64 { return roundTrip(b, newest) })
	x := result{Question: "round trip, UDP", Case: fmt.Sprintf("oldest of %d networks", len(names)),
		Unit: "µs", Against: "newest"}
	results.add(b, compared(x, found[0], found[1]))
}
