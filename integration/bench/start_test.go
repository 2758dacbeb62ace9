// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// crowd is the number of containers that are started at the same time.
const crowd = 32

// How long does it take to start many containers at the same time? Compared with Docker's bridge network.
func BenchmarkStart(b *testing.B) {
	onEachDocker(b, func(b *testing.B, e *dockerHost) {
		e.addNetworks(b)
		for _, internal := range []bool{true, false} {
			took := inTurns(3, e.startCrowd(b, "weave", internal), e.startCrowd(b, "bridge", internal))
			x := result{Question: fmt.Sprintf("start %d containers at once", crowd),
				Case: "Docker " + e.version + ", " + kind(internal), Unit: "ms", Against: "bridge"}
			results.add(b, compared(x, took[0], took[1]))
		}
	})
}

// startCrowd returns a function that creates containers, measures how long it takes to start all of them at the same
// time, and removes them. Docker replies to a start when the container runs.
func (e *dockerHost) startCrowd(b *testing.B, driver string, internal bool) func() float64 {
	network := networkName(driver, internal)
	return func() float64 {
		names := make([]string, crowd)
		for i := range names {
			names[i] = fmt.Sprintf("%s-%d", network, i)
		}
		atOnce(crowd, func(i int) {
			e.post(b, "/containers/create?name="+names[i], map[string]any{
				"Image": lab.Image, "HostConfig": map[string]string{"NetworkMode": network},
			})
		})
		took := milliseconds(func() {
			atOnce(crowd, func(i int) { e.post(b, "/containers/"+names[i]+"/start", nil) })
		})
		e.Docker(b, append([]string{"rm", "-f"}, names...)...)
		return took
	}
}
