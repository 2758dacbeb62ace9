package bench

import (
	"fmt"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// crowd is how many containers are started at once.
const crowd = 32

// How long does it take until all containers run that are started at once? Against Docker's own bridge network.
func BenchmarkStart(b *testing.B) {
	onEachEngine(b, func(b *testing.B, e *engine) {
		e.addNetworks(b)
		for _, internal := range []bool{true, false} {
			took := inTurns(3, e.startCrowd(b, "weave", internal), e.startCrowd(b, "bridge", internal))
			x := result{Question: fmt.Sprintf("start %d containers at once", crowd), Case: "Docker " + e.version + ", " + kind(internal), Unit: "ms", Against: "bridge"}
			results.add(b, compared(x, took[0], took[1]))
		}
	})
}

// startCrowd creates containers, which are then started at once, and takes them away again after each turn. The engine
// answers a start when the container runs.
func (e *engine) startCrowd(b *testing.B, driver string, internal bool) func() float64 {
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
