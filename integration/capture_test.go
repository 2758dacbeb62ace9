// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// TestCapture: weave capture writes what passes a container, and what passes between two, from both ends of each.
func TestCapture(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "wired")
	for _, name := range []string{"ada", "bob", "eve"} {
		h.Run(t, "--network", "wired", "--name", name)
	}
	byName := map[string]string{}
	for _, e := range awaitEndpoints(t, h, 3) {
		byName[e.ContainerName] = e.Addresses[0].Addr().String()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, to := range []string{"bob", "eve"} {
		ping := h.DockerCommand(ctx, "exec", "ada", "ping", "-i", "0.1", byName[to])
		if err := ping.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cancel(); _ = ping.Wait() }()
	}
	file := filepath.Join(t.TempDir(), "between.pcapng")
	captureInto(t, h, file, "ada", "bob", "--filter", "icmp", "--packets", "40")
	out := read(t, file, "-n")
	want(t, out, byName["ada"]+" > "+byName["bob"]+": ICMP echo request", byName["bob"]+" > "+byName["ada"])
	if strings.Contains(out, byName["eve"]) {
		t.Errorf("what passes a third container was captured:\n%s", out)
	}
	if n := strings.Count(out, " ICMP "); n != 40 {
		t.Errorf("%d packets, want 40", n)
	}
	captureInto(t, h, file, "ada", "--time", "1s", "--filter", "host "+byName["eve"])
	want(t, read(t, file, "-n"), byName["ada"]+" > "+byName["eve"])
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want(t, string(b), "ada eth0", "ada wve-") // the names of the interfaces
}

// captureInto has weave capture write to its standard output, and that into a file.
func captureInto(t *testing.T, h *lab.Host, file string, args ...string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var said strings.Builder
	cmd := h.Command(t.Context(), lab.Weave, append([]string{"capture"}, args...)...)
	cmd.Stdout, cmd.Stderr = f, &said
	if err := cmd.Run(); err != nil || said.Len() > 0 {
		t.Fatalf("weave capture %q: %v: %s", args, err, said.String())
	}
}

// read returns what tcpdump prints of a capture.
func read(t *testing.T, file string, options ...string) string {
	t.Helper()
	return command(t, "TZ=UTC", "tcpdump", append(options, "-r", file)...)
}
