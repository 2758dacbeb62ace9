// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

func TestPublishedPort(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app")
	h.RunCommand(t, []string{"--network", "app", "--name", "web", "-p", "8080:80", "-p", "80/udp"},
		"httpd", "-f", "-h", "/www")

	url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(sharedAddress.Addr(), 8080))
	lab.Eventually(t, 10*time.Second, "page over the published port, from outside", func() error {
		out, err := shared.underlay.Command(t.Context(), "curl", "-sS", "--max-time", "2", url).CombinedOutput()
		if err == nil && string(out) != lab.Page {
			err = fmt.Errorf("unexpected page")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if got := h.Exec(t, "curl", "-sS", "--max-time", "5", "http://127.0.0.1:8080/"); got+"\n" != lab.Page {
		t.Errorf("the page from the host itself is %q", got)
	}
	want(t, h.Docker(t, "port", "web"), "80/tcp -> 0.0.0.0:8080", "80/udp -> ")
	want(t, h.Docker(t, "ps", "--format", "{{.Names}} {{.Ports}}"), "web ", ":8080->80/tcp")
}

func TestContainersReachTheWorld(t *testing.T) {
	h := sharedHost(t)
	www := t.TempDir()
	if err := os.WriteFile(filepath.Join(www, "index.html"), []byte("the world\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	world := shared.underlay.Command(ctx, "busybox", "httpd", "-f", "-p", "8000", "-h", www)
	if err := world.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = world.Wait() }) // cancel kills it

	weaveNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "client")
	ping(t, h, "client", outside.Addr().String())
	lab.Eventually(t, 5*time.Second, "page from the world", func() error {
		out, err := h.DockerErr("exec", "client", "wget", "-qO-", fmt.Sprintf("http://%s:8000/", outside.Addr()))
		if err == nil && !strings.Contains(out, "the world") {
			err = fmt.Errorf("got %q", out)
		}
		return err
	})
}
