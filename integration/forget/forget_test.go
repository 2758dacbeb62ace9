// Package forget is a test that mostly waits, for minutes. As a package of its own it runs beside the other integration
// tests.
package forget

import (
	"fmt"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// After a crash Docker forgets its endpoints without a call to a plugin on a legacy socket (except one whose IPAM
// driver it has already used). weave releases an endpoint that Docker has not known for some time.
func TestEndpointsThatDockerForgotAreReleased(t *testing.T) {
	h := lab.Start(t, lab.Options{Name: "forget"})
	h.StartPlugin(t)
	h.CreateNetwork(t, "app", "-d", "weave")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "back", "--restart", "always")
	client := api.NewClient(h.Path(lab.APISocket))
	before, err := client.Endpoints(t.Context(), api.Query{})
	if err != nil || len(before) != 2 {
		t.Fatalf("endpoints %v, %v", before, err)
	}

	h.KillDocker(t)
	h.StartDocker(t)
	lab.Eventually(t, 5*time.Minute, "only the endpoint of the running container", func() error {
		found, err := client.Endpoints(t.Context(), api.Query{Live: "kernel"})
		if err != nil {
			return err
		}
		if len(found) != 1 || len(found[0].Drift) > 0 || found[0].ID == before[0].ID || found[0].ID == before[1].ID {
			return fmt.Errorf("listed: %+v", found)
		}
		return nil
	})
	h.Docker(t, "exec", "back", "ip", "address", "show", "eth0")
	h.Docker(t, "start", "one")
	h.Docker(t, "exec", "one", "ping", "-c1", "-w5", "back")
}
