// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

func TestManagedPlugin(t *testing.T) {
	t.Parallel()
	m := newManagedLab(t)
	t.Run("round trip", func(t *testing.T) { t.Parallel(); testRoundTrip(t, m) })
	t.Run("alias and settings", func(t *testing.T) { t.Parallel(); testAliasAndSettings(t, m) })
	t.Run("upgrade", func(t *testing.T) { t.Parallel(); testUpgrade(t, m) })
}

// testRoundTrip installs the plugin on a new host, uses it, and removes it.
func testRoundTrip(t *testing.T, m managedLab) {
	h := m.host(t, "user", "192.0.2.21/24")
	install(t, h, managedName)
	weaveNetwork(t, h, "app", "--ipam-driver", "weave")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	awaitRunning(t, h, "one", "two")
	awaitEndpoints(t, h, 2)
	lab.Eventually(t, 30*time.Second, "names of containers and of drivers", func() error {
		ps, status := h.Weave(t, "ps"), h.Weave(t, "status")
		drivers := "weave, " + managedName
		if strings.Contains(ps, "one") && strings.Contains(ps, "two") && strings.Contains(status, drivers) {
			return nil
		}
		return fmt.Errorf("\n%s\n%s", ps, status)
	})
	if s := status(t, h); len(s.Warnings) > 0 {
		t.Errorf("warnings: %q", s.Warnings)
	}
	checkDriftIsTold(t, h, "one", "app")
	// The plugin has the right to ask the kernel what it drops.
	nsenterContainer(t, h, "two", "iptables -I INPUT -p icmp -j DROP")
	if _, err := h.WeaveErr("check", "one", "two"); err == nil {
		t.Error("a rule in the container that drops is not found")
	} else {
		want(t, err.Error(), "connection: a ping to", "NETFILTER_DROP at eth0 in two")
	}
	nsenterContainer(t, h, "two", "iptables -D INPUT -p icmp -j DROP")

	// Networks by the plugin's full name have the same state. Docker counts only these as uses of the plugin.
	h.Exec(t, "iptables-legacy", "-N", "DOCKER-USER")
	h.CreateNetwork(t, "full", "-d", managedName, "--ipam-driver", managedName, "--ipv6",
		"-o", "works.weave.firewall=host", "-o", "works.weave.gateway=docker")
	h.Run(t, "--network", "full", "--name", "three")
	awaitEndpoints(t, h, 3)
	if _, err := h.DockerErr("plugin", "disable", managedName); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("disable beside a network by the full name: %v", err)
	}
	testRules(t, h)
	testConfinement(t, h)
	for _, e := range endpoints(t, h, api.Query{Networks: []string{"app"}}) {
		checkPrograms(t, h, e)
	}
	// Although /proc/sys is read-only in a plugin, the host has no IPv6 on the bridges.
	for _, bridge := range linksOf(t, h, "wv-") {
		if got := strings.TrimSpace(h.Exec(t, "cat", "/proc/sys/net/ipv6/conf/"+bridge+"/disable_ipv6")); got != "1" {
			t.Errorf("%s: disable_ipv6 is %s", bridge, got)
		}
	}

	h.Docker(t, "rm", "-f", "one", "two", "three")
	awaitNoEndpoints(t, h)
	h.Docker(t, "network", "rm", "app", "full")
	h.Docker(t, "plugin", "disable", managedName)
	for _, socket := range []string{lab.PluginSocket, lab.APISocket} {
		if _, err := os.Lstat(h.Path(socket)); !os.IsNotExist(err) {
			t.Errorf("%s after disable: %v", socket, err)
		}
	}
	h.Docker(t, "plugin", "rm", managedName)
	if links := linksOf(t, h, "wv-", "wve-", "wvc-"); len(links) > 0 {
		t.Errorf("left: %v", links)
	}
}

// testRules checks that both back ends have weave's rule, because both have tables. The plugin writes that of legacy
// with its own tools and the host reads it with the host's; both use the host's lock.
func testRules(t *testing.T, h *lab.Host) {
	t.Helper()
	for _, command := range []string{"iptables-nft", "iptables-legacy"} {
		if command == "iptables-nft" && usesNftables() {
			continue // nobody has made the table
		}
		want(t, h.Exec(t, command, "-S", "FORWARD"), weaveRule)
	}
	h.Exec(t, "test", "-e", "/run/xtables.lock")
	if _, err := h.ExecErr("test", "-e", "/proc/"+managedPID(t, h)+"/root/run/xtables.lock"); err == nil {
		t.Error("the plugin's legacy iptables uses a lock of its own")
	}
}

// testConfinement checks the plugin's capabilities, namespaces and mounts from outside.
func testConfinement(t *testing.T, h *lab.Host) {
	t.Helper()
	pid := managedPID(t, h)
	status := h.Exec(t, "cat", "/proc/"+pid+"/status")
	for number, name := range map[int]string{11: "NET_BROADCAST", 12: "NET_ADMIN", 13: "NET_RAW"} {
		if !capability(t, status, "CapEff", number) {
			t.Errorf("the plugin lacks CAP_%s", name)
		}
	}
	if capability(t, status, "CapEff", capSysAdmin) || !capability(t, status, "CapBnd", capSysAdmin) {
		t.Errorf("CAP_SYS_ADMIN must be in the bounding set and in no other:\n%s", status)
	}
	dangerous := map[int]string{16: "SYS_MODULE", 19: "SYS_PTRACE", 2: "DAC_READ_SEARCH", 17: "SYS_RAWIO"}
	for number, name := range dangerous {
		if capability(t, status, "CapBnd", number) {
			t.Errorf("the plugin has CAP_%s", name)
		}
	}
	for _, namespace := range []string{"net", "mnt", "pid", "ipc", "uts"} {
		own := h.Exec(t, "readlink", "/proc/"+pid+"/ns/"+namespace)
		host := h.Exec(t, "readlink", "/proc/1/ns/"+namespace)
		if (own == host) != (namespace == "net") {
			t.Errorf("%s namespace: the plugin's %s, the host's %s", namespace, own, host)
		}
	}
	var fromHost []string
	for line := range strings.Lines(h.Exec(t, "cat", "/proc/"+pid+"/mountinfo")) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], "/host") && strings.Count(fields[4], "/") == 2 {
			fromHost = append(fromHost, fields[4])
		}
	}
	if !slices.Equal(fromHost, []string{"/host/run", "/host/proc"}) {
		t.Errorf("mounts from the host: %v, want /host/run and a proc of its own", fromHost)
	}
}

// testAliasAndSettings makes a user's likely mistakes: an alias that hides -d weave, a bad setting, private mounts, a
// second plugin on the same socket.
func testAliasAndSettings(t *testing.T, m managedLab) {
	h := m.host(t, "alias", "192.0.2.22/24")
	install(t, h, managedName, "--alias=weave")
	lab.Eventually(t, 30*time.Second, "status shows what to type", func() error {
		s := h.Weave(t, "status")
		if strings.Contains(s, "type -d weave:latest") && strings.Contains(s, "Drivers:     weave:latest\n") {
			return nil
		}
		return fmt.Errorf("status:\n%s", s)
	})
	if _, err := h.DockerErr("network", "create", "-d", "weave", "app"); err == nil {
		t.Error("-d weave works although the plugin has the alias weave: the warning in the status is no longer true")
	}
	h.CreateNetwork(t, "app", "-d", "weave:latest")
	h.Docker(t, "network", "rm", "app")
	h.Docker(t, "plugin", "disable", "weave")
	h.Docker(t, "plugin", "rm", "weave")

	// `docker plugin enable` can't show that a value is bad; the first call to the plugin does.
	install(t, h, managedName, "--disable", "WEAVE_RANGE=10.99.0.0")
	h.Docker(t, "plugin", "enable", managedName)
	for _, name := range []string{"weave", managedName} {
		_, err := h.DockerErr("network", "create", "-d", name, "app")
		if err == nil || !strings.Contains(err.Error(), `WEAVE_RANGE "10.99.0.0": want an IPv4 prefix`) {
			t.Errorf("-d %s with a bad range: %v", name, err)
		}
	}
	if _, err := h.WeaveErr("status"); err == nil || !strings.Contains(err.Error(), "WEAVE_RANGE") {
		t.Errorf("status with a bad range: %v", err)
	}
	h.Docker(t, "plugin", "disable", managedName)
	h.Docker(t, "plugin", "set", managedName,
		"WEAVE_RANGE=10.99.0.0/16", "WEAVE_SUBNET_BITS=24", "WEAVE_API_GROUP=4711")

	// On a host with private mounts the plugin can't see sandboxes; all else works.
	h.Exec(t, "mount", "--make-private", "/run")
	h.Docker(t, "plugin", "enable", managedName)
	want(t, h.Weave(t, "status"), "10.99.0.0/16")
	if group := h.Exec(t, "stat", "-c", "%g %a", lab.APISocket); group != "4711 660" {
		t.Errorf("group and mode of the API's socket: %s", group)
	}
	weaveNetwork(t, h, "private", "--ipam-driver", "weave")
	h.Run(t, "--network", "private", "--name", "one")
	h.Run(t, "--network", "private", "--name", "two")
	awaitRunning(t, h, "one", "two")
	if a := attachmentOf(t, h, "one", "private"); !strings.HasPrefix(a.IPAddress, "10.99.0.") {
		t.Errorf("address %s, want one of the range that was set", a.IPAddress)
	}
	want(t, h.Weave(t, "status"), "sandboxes can't be seen", "mount --make-rshared /")
	want(t, h.Weave(t, "ps", "--live=nsproc"), "mount is not visible")
	h.Docker(t, "rm", "-f", "one", "two")
	h.Docker(t, "network", "rm", "private")

	// Another process serves the plugin's socket on the host already, as Weave Net's plugin would.
	h.Docker(t, "plugin", "disable", managedName)
	listener, err := net.Listen("unix", h.Path(lab.PluginSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	h.Docker(t, "plugin", "enable", managedName)
	_, err = h.DockerErr("network", "create", "-d", managedName, "full")
	if err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("beside another process on the socket: %v", err)
	}
}
