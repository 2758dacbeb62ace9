// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// After a crash Docker forgets its endpoints without a call to a plugin on a legacy socket (except one whose IPAM
// driver it has already used). weave compares its endpoints with Docker's and releases those that Docker has not
// known for some time.
func TestEndpointsThatDockerForgotAreReleased(t *testing.T) {
	h, _ := startHost(t, "forget", "--docker-interval=6s")
	weaveNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "back", "--restart", "always")
	before := awaitEndpoints(t, h, 2)

	h.KillDocker(t)
	h.StartDocker(t)
	lab.Eventually(t, time.Minute, "only the endpoint of the running container", func() error {
		found := endpoints(t, h, api.Query{Live: api.Kernel})
		if len(found) != 1 || len(found[0].Drift) > 0 || found[0].ID == before[0].ID || found[0].ID == before[1].ID {
			return fmt.Errorf("listed: %+v", found)
		}
		return nil
	})
	h.Docker(t, "exec", "back", "ip", "address", "show", "eth0")
	h.Docker(t, "start", "one")
	ping(t, h, "one", "back")
}
