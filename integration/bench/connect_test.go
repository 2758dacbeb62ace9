// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"
)

// connectTargets are the targets for connect and disconnect compared with Docker's bridge network, by version of
// Docker: for an internal network, and for one with a way out, for which Docker connects the container to
// docker_gwbridge as well.
var connectTargets = map[string]struct{ internal, out *target }{
	"20.10": {atMost(0.8), atMost(1.4)},
	"26.1":  {atMost(0.8), atMost(1.7)},
	"28.5":  {atMost(1.2), atMost(1.8)},
}

// How long does it take to connect a running container to a network and to disconnect it again? Compared with Docker's
// bridge network.
func BenchmarkConnect(b *testing.B) {
	onEachDocker(b, func(b *testing.B, e *dockerHost) {
		e.addNetworks(b)
		e.CreateNetwork(b, "home", "-d", "bridge", "--internal") // so that only the measured network has a way out
		e.Run(b, "--network", "home", "--name", "guest")
		for _, internal := range []bool{true, false} {
			cycle := func(driver string) func() float64 {
				path := "/networks/" + networkName(driver, internal)
				return func() float64 {
					return milliseconds(func() {
						e.post(b, path+"/connect", map[string]string{"Container": "guest"})
						e.post(b, path+"/disconnect", map[string]string{"Container": "guest"})
					})
				}
			}
			inTurns(2, cycle("weave"), cycle("bridge")) // the first connect makes docker_gwbridge
			took := inTurns(40, cycle("weave"), cycle("bridge"))
			x := result{Question: "connect and disconnect", Case: "Docker " + e.version + ", " + kind(internal),
				Unit: "ms", Against: "bridge"}
			x.Target = connectTargets[e.version].out
			if internal {
				x.Target = connectTargets[e.version].internal
			}
			results.add(b, compared(x, took[0], took[1]))
		}
	})
}
