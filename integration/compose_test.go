// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// docker-compose starts, scales up and down, and removes a project with weave networks.
func TestCompose(t *testing.T) {
	h := sharedHost(t)
	t.Cleanup(func() { _, _ = compose(h, "down") }) // for a test that failed halfway
	up := func(webs int) {
		t.Helper()
		if out, err := compose(h, "up", "-d", "--scale", fmt.Sprintf("web=%d", webs)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		awaitEndpoints(t, h, 2*webs+1) // a web is on both networks, the client on one
		lab.Eventually(t, 10*time.Second, "an address for each web", func() error {
			out, err := h.DockerErr("exec", "shop-client", "nslookup", "web.", "127.0.0.11")
			if n := strings.Count(out, "10.73.0."); n != webs {
				return fmt.Errorf("%d addresses (%v): %s", n, err, out)
			}
			return nil
		})
		ping(t, h, "shop-client", "web")
	}
	up(1)
	if a := attachmentOf(t, h, "shop-client", "shop_front"); a.IPAddress != "10.73.0.10" {
		t.Errorf("address of the client: %s", a.IPAddress)
	}
	web := h.Docker(t, "ps", "-q", "--filter", "label=com.docker.compose.service=web")
	before := attachmentOf(t, h, web, "shop_front").IPAddress
	// Made again by rm and up: this docker-compose can't do it with --force-recreate beside Docker 25 and later.
	for _, command := range []string{"restart", "stop", "start", "rm -s -f web", "up -d"} {
		if out, err := compose(h, strings.Fields(command)...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if command == "stop" || strings.HasPrefix(command, "rm") {
			continue
		}
		web = h.Docker(t, "ps", "-q", "--filter", "label=com.docker.compose.service=web")
		if got := attachmentOf(t, h, web, "shop_front").IPAddress; got != before {
			t.Errorf("address of web after docker-compose %s: %s, before %s", command, got, before)
		}
	}
	want(t, h.Docker(t, "exec", "shop-client", "ip", "link", "show", "eth0"), "mtu 1400")
	up(4)
	up(2)
	if out, err := compose(h, "down"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	awaitNoEndpoints(t, h)
	networks := h.Docker(t, "network", "ls")
	if bridges := linksOf(t, h, "wv-"); len(bridges) > 0 || strings.Contains(networks, "shop") {
		t.Errorf("left: bridges %v, networks:\n%s", bridges, networks)
	}
}

// compose runs docker-compose, in the installed version, with the test's compose file.
func compose(h *lab.Host, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args = append([]string{"-p", "shop", "-f", "testdata/compose.yml"}, args...)
	cmd := exec.CommandContext(ctx, "docker-compose", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+h.Path(lab.DockerSocket))
	out, err := cmd.CombinedOutput()
	return string(out), err
}
