// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// firewalldHost starts a host on which firewalld runs, Debian's, besides Docker and weave, and whose bridges send
// frames through its tables.
func firewalldHost(t *testing.T) *lab.Host {
	t.Helper()
	if os.Getenv("WEAVE_LAB_SUITE") != "" {
		t.Skip("the packages of firewalld are those for this machine's own root directory")
	}
	h := lab.Start(t, lab.Options{Name: "firewalld", NoDocker: true})
	for _, deb := range debs(t, "firewalld") {
		// dpkg -x would replace a /lib that is a link to /usr/lib.
		unpack := `dpkg-deb --fsys-tarfile "$0" | tar -x --keep-directory-symlink -C "$1"`
		if out, err := exec.Command("sh", "-c", unpack, deb, h.Path("/")).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", deb, err, out)
		}
	}
	h.Exec(t, "mkdir", "-p", "/run/dbus")
	h.Exec(t, "dbus-daemon", "--system", "--fork")
	startFirewalld(t, h)
	h.StartDocker(t)
	h.ImportImage(t)
	h.Exec(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1", "net.bridge.bridge-nf-call-ip6tables=1")
	return h
}

// debs downloads a Debian package, and those that it needs and this machine lacks, and returns their paths.
func debs(t *testing.T, name string) []string {
	t.Helper()
	dir := lab.Cached(t, "debs-"+name, func(dir string) error {
		if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
			return err
		}
		out, err := exec.Command("apt-get", "install", "--download-only", "--reinstall", "--no-install-recommends",
			"-qqy", "-o", "Dir::Cache::archives="+dir, name, "dbus").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no packages in %s: %v", dir, err)
	}
	return found
}

func startFirewalld(t *testing.T, h *lab.Host) {
	t.Helper()
	h.Exec(t, "firewalld")
	lab.Eventually(t, 30*time.Second, "firewalld runs", func() error {
		_, err := h.ExecErr("firewall-cmd", "--state")
		return err
	})
}

// Containers of one network reach each other although firewalld refuses what passes between links of no zone: their
// bridges are in a zone that accepts, again when firewalld reloads or restarts, until the network goes.
func TestFirewalld(t *testing.T) {
	h := firewalldHost(t)
	plugin := h.StartPlugin(t)
	// Tagged frames don't reach firewalld, so their bridge needs no zone, and no setting for IPv6.
	weaveNetwork(t, h, "tagged", "--internal", "--ipv6", "--subnet", "10.54.0.0/24", "--subnet", "fd54::/64")
	h.Run(t, "--network", "tagged", "--name", "three")
	h.Run(t, "--network", "tagged", "--name", "four", "--ip", "10.54.0.50", "--ip6", "fd54::50")
	for _, address := range []string{"10.54.0.50", "fd54::50"} {
		ping(t, h, "three", address)
	}
	awaitZone(t, h, awaitEndpoints(t, h, 2)[0].Bridge, false, "of a network whose frames are tagged")
	awaitWarning(t, h, "")
	h.Docker(t, "rm", "-f", "three", "four")
	h.Docker(t, "network", "rm", "tagged")

	weaveNetwork(t, h, "app", "--internal", "--ipv6", "--subnet", "10.53.0.0/24", "--subnet", "fd53::/64",
		"-o", "works.weave.firewall=host")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two", "--ip", "10.53.0.50", "--ip6", "fd53::50")
	bridge := awaitEndpoints(t, h, 2)[0].Bridge
	check := func(when string) {
		t.Helper()
		awaitZone(t, h, bridge, true, when)
		for _, address := range []string{"10.53.0.50", "fd53::50"} {
			ping(t, h, "one", address)
		}
	}
	// firewalld drops IPv6 from addresses to which the host has no route, and that is told.
	awaitWarning(t, h, "IPv6_rpfilter=no")
	h.Exec(t, "sed", "-i", "s/^IPv6_rpfilter=.*/IPv6_rpfilter=no/", "/etc/firewalld/firewalld.conf")
	h.Exec(t, "firewall-cmd", "--reload")
	check("when the network is made")

	// firewalld really refuses: without that, the test would show nothing.
	plugin.Stop(t)
	h.Exec(t, "firewall-cmd", "--zone=trusted", "--remove-interface="+bridge)
	noPing(t, h, "one", "10.53.0.50")
	h.StartPlugin(t)
	check("when weave starts")

	h.Exec(t, "firewall-cmd", "--reload")
	check("after a reload")
	h.Exec(t, "firewall-cmd", "--zone=trusted", "--remove-interface="+bridge)
	check("after it was taken out")
	h.Exec(t, "sh", "-c", "kill $(cat /run/firewalld.pid)")
	lab.Eventually(t, 30*time.Second, "firewalld has ended", func() error {
		if _, err := h.ExecErr("firewall-cmd", "--state"); err == nil {
			return fmt.Errorf("it still runs")
		}
		return nil
	})
	startFirewalld(t, h)
	check("after a restart")
	awaitWarning(t, h, "")

	h.Docker(t, "rm", "-f", "one", "two")
	h.Docker(t, "network", "rm", "app")
	awaitZone(t, h, bridge, false, "after the network is removed")
}

// awaitWarning waits until the only warning contains a text; empty: until there is none.
func awaitWarning(t *testing.T, h *lab.Host, text string) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, fmt.Sprintf("a warning with %q", text), func() error {
		warnings := status(t, h).Warnings
		if text == "" && len(warnings) == 0 || text != "" && len(warnings) == 1 && strings.Contains(warnings[0], text) {
			return nil
		}
		return fmt.Errorf("warnings: %q", warnings)
	})
}

// awaitZone waits until a bridge is in the zone that accepts, or is not.
func awaitZone(t *testing.T, h *lab.Host, bridge string, want bool, when string) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, fmt.Sprintf("%s: %s is in the zone: %t", when, bridge, want), func() error {
		links, err := h.ExecErr("firewall-cmd", "--zone=trusted", "--list-interfaces")
		if err != nil {
			return err
		}
		if slices.Contains(strings.Fields(links), bridge) != want {
			return fmt.Errorf("in it are %q", links)
		}
		return nil
	})
}
