package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// A compose file with weave networks comes up, scales up and down, and goes.
func TestCompose(t *testing.T) {
	h := sharedHost(t)
	t.Cleanup(func() { _, _ = compose(h, "down") }) // it is down already unless t failed before
	up := func(webs int) {
		t.Helper()
		if out, err := compose(h, "up", "-d", "--scale", fmt.Sprintf("web=%d", webs)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		awaitEndpoints(t, h, 2*webs+1) // a web is on both networks, the client on one
		lab.Eventually(t, 10*time.Second, "the name web stands for each of them", func() error {
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
	want(t, h.Docker(t, "exec", "shop-client", "ip", "link", "show", "eth0"), "mtu 1400")
	up(4)
	up(2)
	if out, err := compose(h, "down"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	awaitNothingLeft(t, h)
	if n := len(endpoints(t, h, api.Query{})) + len(linksOf(t, h, "wv-")); n > 0 || strings.Contains(h.Docker(t, "network", "ls"), "shop") {
		t.Errorf("%d endpoints and bridges are left:\n%s", n, h.Docker(t, "network", "ls"))
	}
}

// compose runs docker-compose, of whichever version, on the test's compose file.
func compose(h *lab.Host, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-compose", append([]string{"-p", "shop", "-f", "testdata/compose.yml"}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+h.Path(lab.DockerSocket))
	out, err := cmd.CombinedOutput()
	return string(out), err
}
