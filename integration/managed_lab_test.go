// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// registry is the address of the registry of managedLab, for hosts on its underlay.
const registry = "192.0.2.19:5000"

// Names of the managed plugin in the registry.
const (
	managedName     = registry + "/weave:latest"   // the tree's own
	managedPrevious = registry + "/weave:previous" // of previousCommit
)

// managedLab is an underlay with a registry that has the managed plugin, and a host from which plugins are pushed to
// it.
type managedLab struct {
	underlay *lab.Underlay
	builder  *lab.Host
}

// newManagedLab makes the underlay, the registry and the builder, and pushes the tree's plugin as managedName.
func newManagedLab(t *testing.T) managedLab {
	t.Helper()
	m := managedLab{underlay: lab.NewUnderlay(t, outside)}
	m.startRegistry(t)
	m.builder = m.host(t, "builder", "192.0.2.20/24")
	m.push(t, managedName, managedDir(t))
	return m
}

// push creates a managed plugin from the files in dir and pushes it to the registry.
func (m managedLab) push(t *testing.T, name, dir string) {
	t.Helper()
	m.builder.Docker(t, "plugin", "create", name, dir)
	m.builder.Docker(t, "plugin", "push", name)
}

// host starts a host that can reach the registry.
func (m managedLab) host(t *testing.T, name, address string) *lab.Host {
	t.Helper()
	return lab.Start(t, lab.Options{Name: name, Underlay: m.underlay, Address: netip.MustParsePrefix(address),
		DockerArgs: []string{"--insecure-registry", registry}})
}

// startRegistry runs Debian's docker-registry on a host of its own, which uses this machine's software.
func (m managedLab) startRegistry(t *testing.T) {
	t.Helper()
	h := lab.Start(t, lab.Options{Name: "registry", Root: "/", NoDocker: true,
		Underlay: m.underlay, Address: netip.MustParsePrefix("192.0.2.19/24")})
	const config = "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n" +
		"storage: {filesystem: {rootdirectory: /run/registry}}\nhttp: {addr: ':5000'}\n"
	h.Exec(t, "sh", "-c", `printf %s "$0" >/run/registry.yml`, config)
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.Command(ctx, "docker-registry", "serve", "/run/registry.yml")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Second // the registry itself holds the output open until the host ends
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("registry:\n%s", &log)
		}
	})
	lab.Eventually(t, 10*time.Second, "the registry answers", func() error {
		_, err := h.ExecErr("curl", "-sf", "http://"+registry+"/v2/")
		return err
	})
}

// managedDir returns the directory with the managed plugin's files, config.json and rootfs. The first call makes them.
func managedDir(t *testing.T) string {
	t.Helper()
	dir, err := managedFiles()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var managedFiles = sync.OnceValues(func() (string, error) {
	if out, err := exec.Command("make", "-C", "..", "plugin-files").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make plugin-files: %w\n%s", err, out)
	}
	return filepath.Abs("../build/plugin")
})

// removeSetting removes an environment variable from the plugin's config.json in dir.
func removeSetting(t *testing.T, dir, variable string) {
	t.Helper()
	path := filepath.Join(dir, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	config["env"] = slices.DeleteFunc(config["env"].([]any), func(v any) bool {
		return v.(map[string]any)["name"] == variable
	})
	if b, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// install installs a managed plugin from the registry. The options are flags of `docker plugin install` and KEY=VALUE
// settings.
func install(t *testing.T, h *lab.Host, name string, options ...string) {
	t.Helper()
	flags, values := []string{"plugin", "install", "--grant-all-permissions"}, []string{name}
	for _, o := range options {
		if strings.HasPrefix(o, "-") {
			flags = append(flags, o)
		} else {
			values = append(values, o)
		}
	}
	h.Docker(t, append(flags, values...)...)
}

// managedPID returns the managed plugin's process id on the host.
func managedPID(t *testing.T, h *lab.Host) string {
	t.Helper()
	return h.Exec(t, "pgrep", "-f", "^/weave serve --managed")
}
