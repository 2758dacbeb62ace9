// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"
)

// connectTargets are the targets for connect and disconnect compared with Docker's bridge network, by version of
// Docker: for an internal network, for one with a way out over docker_gwbridge, to which Docker connects the container
// as well, and for those with other ways out.
var connectTargets = map[string]struct{ internal, docker, others *target }{
	"20.10": {atMost(0.8), atMost(1.4), atMost(0.85)},
	"26.1":  {atMost(0.8), atMost(1.7), atMost(0.7)},
	"28.5":  {atMost(1.2), atMost(1.8), atMost(0.7)},
	"29.8":  {atMost(1.2), atMost(1.8), atMost(0.7)},
}

// How long does it take to connect a running container to a network and to disconnect it again? Compared with Docker's
// bridge network.
func BenchmarkConnect(b *testing.B) {
	onEachDocker(b, func(b *testing.B, e *dockerHost) {
		e.addNetworks(b)
		for network, gateway := range map[string]string{
			"docker": "docker", "native": "native", "router": "10.92.0.9", "private": "container:vpn",
		} {
			options := []string{"network", "create", "-d", "weave", "-o", "works.weave.gateway=" + gateway}
			if network == "router" {
				options = append(options, "--subnet", "10.92.0.0/24")
			}
			e.Docker(b, append(options, network)...)
		}
		e.CreateNetwork(b, "home", "-d", "bridge", "--internal") // so that only the measured network has a way out
		e.Run(b, "--network", "home", "--name", "guest")
		cycle := func(network string) func() float64 {
			return func() float64 {
				return milliseconds(func() {
					e.post(b, "/networks/"+network+"/connect", map[string]string{"Container": "guest"})
					e.post(b, "/networks/"+network+"/disconnect", map[string]string{"Container": "guest"})
				})
			}
		}
		targets := connectTargets[e.version]
		for _, c := range []struct {
			name, weave, bridge string
			target              *target
		}{
			{kind(true), networkName("weave", true), networkName("bridge", true), targets.internal},
			{"gateway=auto", networkName("weave", false), networkName("bridge", false), targets.others},
			{"gateway=native", "native", networkName("bridge", false), targets.others},
			{"gateway=docker", "docker", networkName("bridge", false), targets.docker},
			{"gateway=ADDRESS", "router", networkName("bridge", false), targets.others},
			{"gateway=container:NAME", "private", networkName("bridge", false), targets.others},
		} {
			inTurns(2, cycle(c.weave), cycle(c.bridge)) // the first connect makes docker_gwbridge
			took := inTurns(40, cycle(c.weave), cycle(c.bridge))
			x := result{Question: "connect and disconnect", Case: "Docker " + e.version + ", " + c.name,
				Unit: "ms", Against: "bridge", Target: c.target}
			results.add(b, compared(x, took[0], took[1]))
		}
	})
}
