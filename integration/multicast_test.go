// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

const multicastGroup = "239.1.2.3:4000"

// A container on two networks with works.weave.multicast receives on both. It sends on one of them, since only one of
// its two routes to multicast groups is used.
func TestMulticastOnTwoNetworksOfOneContainer(t *testing.T) {
	h := sharedHost(t)
	tool := buildMulticast(t)
	run := func(name string, args ...string) {
		t.Helper()
		h.Run(t, append([]string{"--name", name}, args...)...)
		h.Docker(t, "cp", tool, name+":/bin/multicast")
	}
	weaveNetwork(t, h, "m1", "--internal", "-o", "works.weave.multicast=true")
	weaveNetwork(t, h, "m2", "--internal", "-o", "works.weave.multicast=true")
	run("both", "--network", "m1")
	h.Docker(t, "network", "connect", "m2", "both")
	run("on1", "--network", "m1")
	run("on2", "--network", "m2")

	lab.Eventually(t, 10*time.Second, "two multicast routes", func() error {
		if routes := multicastRoutes(t, h, "both"); len(routes) != 2 {
			return fmt.Errorf("routes to 224.0.0.0/4: %v", routes)
		}
		return nil
	})
	lab.Eventually(t, 10*time.Second, "a multicast route in each of the others", func() error {
		if a, b := multicastRoutes(t, h, "on1"), multicastRoutes(t, h, "on2"); len(a) != 1 || len(b) != 1 {
			return fmt.Errorf("routes to 224.0.0.0/4: %v, %v", a, b)
		}
		return nil
	})

	// Received on both networks.
	receive(t, h, "both", "eth0")
	receive(t, h, "both", "eth1")
	for _, from := range []string{"on1", "on2"} {
		h.Docker(t, "exec", from, "multicast", "send", multicastGroup, "from "+from)
		received(t, h, "both", "from "+from)
	}

	// Sent on one of them only.
	receive(t, h, "on1", "eth0")
	receive(t, h, "on2", "eth0")
	h.Docker(t, "exec", "both", "multicast", "send", multicastGroup, "from both")
	lab.Eventually(t, 5*time.Second, "datagram from the container on two networks", func() error {
		a, b := receivedBy(t, h, "on1"), receivedBy(t, h, "on2")
		if strings.Contains(a, "from both") == strings.Contains(b, "from both") {
			return fmt.Errorf("want it on one of the networks; on the first: %q, on the second: %q", a, b)
		}
		return nil
	})
}

func TestNoMulticastRouteWithoutTheOption(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "plain", "--internal")
	h.Run(t, "--network", "plain", "--name", "quiet")
	awaitEndpoints(t, h, 1)
	if routes := multicastRoutes(t, h, "quiet"); len(routes) > 0 {
		t.Errorf("routes to 224.0.0.0/4: %v", routes)
	}
}

// buildMulticast returns the path of the program in ./multicast. The first call builds it.
func buildMulticast(t *testing.T) string {
	t.Helper()
	binary, err := multicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

var multicastBinary = sync.OnceValues(func() (string, error) {
	const binary = "../build/multicast"
	build := exec.Command("go", "build", "-o", binary, "./multicast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the multicast program: %w\n%s", err, out)
	}
	return binary, nil
})

// multicastRoutes returns a container's routes to all multicast groups.
func multicastRoutes(t *testing.T, h *lab.Host, container string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(h.Docker(t, "exec", container, "ip", "route")) {
		if strings.HasPrefix(line, "224.0.0.0/4 ") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// receive makes a container join the group on a link and write the datagrams that it receives to a file.
func receive(t *testing.T, h *lab.Host, container, link string) {
	t.Helper()
	const script = "multicast receive $0 $1 >/tmp/received-$1 2>&1"
	h.Docker(t, "exec", "-d", container, "sh", "-c", script, multicastGroup, link)
	lab.Eventually(t, 5*time.Second, container+" joins the group on "+link, func() error {
		out, err := h.DockerErr("exec", container, "cat", "/tmp/received-"+link)
		if err == nil && !strings.HasPrefix(out, "ready") {
			err = errors.New(out)
		}
		return err
	})
}

// receivedBy returns the datagrams that a container has received on all of its links.
func receivedBy(t *testing.T, h *lab.Host, container string) string {
	t.Helper()
	return h.Docker(t, "exec", container, "sh", "-c", "cat /tmp/received-*")
}

// received waits until a container has received a datagram with the given text.
func received(t *testing.T, h *lab.Host, container, text string) {
	t.Helper()
	lab.Eventually(t, 5*time.Second, container+" receives "+text, func() error {
		if got := receivedBy(t, h, container); !strings.Contains(got, text) {
			return fmt.Errorf("received: %q", got)
		}
		return nil
	})
}
