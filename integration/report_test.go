// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// TestReport: weave report has what is needed to look into a fault, and nothing that is nobody's business: neither the
// environment of weave and of containers, nor what users have given to Docker in options and labels.
func TestReport(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "report"})
	plugin := h.StartPlugin(t)
	h.CreateNetwork(t, "app", "-d", "weave", "--label", "token=s3cret-of-a-label")
	h.Run(t, "--network", "app", "--name", "web", "-e", "PASSWORD=s3cret-of-a-container",
		"--network-alias", "www")
	awaitEndpoints(t, h, 1)
	h.Exec(t, lab.Weave, "report", "-w", "/tmp/report.tar.gz")
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xzf", h.Path("/tmp/report.tar.gz")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all := run(t, "grep", "-r", "", dir)
	if strings.Contains(all, "s3cret") {
		t.Errorf("a secret is in the report:\n%s", run(t, "grep", "-r", "s3cret", dir))
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", plugin.PID))
	if err != nil || len(environment) == 0 {
		t.Fatalf("weave's environment: %q, %v", environment, err)
	}
	for _, variable := range strings.Split(strings.TrimRight(string(environment), "\x00"), "\x00") {
		if strings.Contains(all, variable) {
			t.Errorf("weave's environment is in the report: %s", variable)
		}
	}
	for file, text := range map[string]string{
		"README.txt": "look through it", "status.json": `"version"`, "networks.json": `"app"`,
		"endpoints.json": `"web"`,
		"settings.json":  "APISocket", "kernel/host.txt": "net/ipv4/ip_forward = ", "log.txt": "msg=ready",
		"goroutines.txt": "goroutine profile", "kernel/version.txt": "Linux",
	} {
		want(t, run(t, "cat", filepath.Join(dir, "weave-report", file)), text)
	}
	if found := run(t, "find", dir, "-name", "*.error"); strings.TrimSpace(found) != "" {
		t.Errorf("not all could be read: %s", found)
	}
	if _, err := h.ExecErr(lab.Weave, "report", "-w", "/tmp/report.tar.gz"); err == nil {
		t.Error("a report that is there already was overwritten")
	}
}
