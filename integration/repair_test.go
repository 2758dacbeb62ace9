// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// TestRepairWhileRunning: traffic comes back after somebody has changed or removed weave's links, sockets that were
// removed are made again, and what only Docker can put right is told until Docker has done so.
func TestRepairWhileRunning(t *testing.T) {
	h, _ := startHost(t, "repair")
	weaveNetwork(t, h, "app", "--subnet", "10.54.0.0/24")
	h.Run(t, "--network", "app", "--name", "one", "--restart", "always")
	h.Run(t, "--network", "app", "--name", "two", "--restart", "always", "--ip", "10.54.0.50")
	found := awaitEndpoints(t, h, 2)
	bridge, hostEnd := found[0].Bridge, found[0].HostEnd
	ping(t, h, "one", "10.54.0.50")
	if s := status(t, h); len(s.Warnings)+len(s.Repairs) != 0 {
		t.Errorf("before anything is changed: warnings %q, repairs %+v", s.Warnings, s.Repairs)
	}

	for _, change := range []string{
		"ip link set " + bridge + " down",
		"ip link del " + bridge,
		"ip link set " + hostEnd + " nomaster",
		"ip link set " + hostEnd + " type bridge_slave isolated on",
	} {
		before := len(status(t, h).Repairs)
		h.Exec(t, "sh", "-c", change)
		lab.Eventually(t, 10*time.Second, "repair after "+change, func() error {
			if s := status(t, h); len(s.Repairs) == before || len(s.Warnings) > 0 {
				return fmt.Errorf("warnings %q, repairs %+v", s.Warnings, s.Repairs)
			}
			return nil
		})
		ping(t, h, "one", "10.54.0.50")
	}
	awaitEndpoints(t, h, 2)
	want(t, h.Weave(t, "status"), "Repaired:", "bridge "+bridge+": missing")

	h.Exec(t, "rm", "-r", "/run/docker/plugins", lab.APISocket)
	lab.Eventually(t, 10*time.Second, "weave's own socket", func() error {
		_, err := h.WeaveErr("status")
		return err
	})
	weaveNetwork(t, h, "other", "-o", "works.weave.gateway=docker") // Docker finds weave again
	h.Run(t, "--network", "other", "--name", "three")

	h.Exec(t, "ip", "link", "del", "docker_gwbridge")
	warning := func() string { return strings.Join(status(t, h).Warnings, "; ") }
	want(t, warning(), "docker_gwbridge is gone")
	h.StopDocker(t)
	h.StartDocker(t)
	lab.Eventually(t, time.Minute, "no warning", func() error {
		if w := warning(); w != "" {
			return fmt.Errorf("warnings: %s", w)
		}
		return nil
	})
}
