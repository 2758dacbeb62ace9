// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// hosts are test hosts of one cluster.
type hosts struct {
	etcd    *lab.Etcd
	all     []*lab.Host
	plugins []*lab.Plugin // none: they are managed, and run as long as their hosts do
	engines engines       // of the hosts, for the oracle
}

// startHosts starts n hosts on an underlay with an etcd. The oracle looks at them when t has removed what it has made.
func startHosts(t *testing.T, n int, options ...string) *hosts {
	t.Helper()
	u := lab.NewUnderlay(t, outside)
	c := &hosts{etcd: u.StartEtcd(t), engines: dockerNetworks}
	options = append([]string{"--cluster", c.etcd.Address(), "--cluster-lease", "3s"}, options...)
	for i := range n {
		address := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}), 24)
		h := lab.Start(t, lab.Options{Name: fmt.Sprintf("host%d", i+1), Underlay: u, Address: address})
		c.all = append(c.all, h)
		c.plugins = append(c.plugins, h.StartPlugin(t, options...))
	}
	t.Cleanup(func() { c.check(t, "at the end") })
	return c
}

// network makes a network of the cluster on all hosts, as a user does.
func (c *hosts) network(t *testing.T, name string, options ...string) {
	t.Helper()
	for _, h := range c.all {
		h.CreateNetwork(t, name, append([]string{
			"-d", "weave", "--ipam-driver", "weave", "--ipam-opt", "works.weave.network=" + name,
		}, options...)...)
	}
}

// address returns a container's IPv4 address on a network.
func address(t *testing.T, h *lab.Host, container, network string) string {
	t.Helper()
	return attachmentOf(t, h, container, network).IPAddress
}

// TestNetworkBetweenHosts: containers on several hosts are on one network, with one subnet and no address twice; what
// is removed is gone on all hosts, and nothing is left in etcd in the end.
func TestNetworkBetweenHosts(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 3)
	c.network(t, "app", "--subnet", "10.78.0.0/24") // Docker takes --ip only with a --subnet
	for i, h := range c.all {
		h.Run(t, "--network", "app", "--name", fmt.Sprintf("c%d", i))
	}
	addresses := map[string]bool{}
	for i, h := range c.all {
		addresses[address(t, h, fmt.Sprintf("c%d", i), "app")] = true
	}
	if len(addresses) != len(c.all) {
		t.Errorf("addresses %v, want %d different ones", addresses, len(c.all))
	}
	everybodyReaches := func(when string) {
		t.Helper()
		for i, h := range c.all {
			for to := range addresses {
				lab.Eventually(t, 10*time.Second, fmt.Sprintf("c%d pings %s %s", i, to, when), func() error {
					_, err := h.DockerErr("exec", fmt.Sprintf("c%d", i), "ping", "-c1", "-W1", "-s1422", to)
					return err
				})
			}
		}
	}
	everybodyReaches("at first")
	c.check(t, "with a container on each host")
	lab.Eventually(t, 10*time.Second, "the first host lists the containers of all", func() error {
		if id := strings.TrimSpace(c.all[2].Docker(t, "inspect", "-f", "{{.Id}}", "c2")); !strings.Contains(
			c.all[0].Weave(t, "ps", "--no-trunc", id), id) {
			return fmt.Errorf("c2 is not listed by its id %s", id)
		}
		got := c.all[0].Weave(t, "ps", "--format", "{{.ContainerName}} on {{.Host}}")
		hasBoth := strings.Contains(got, "c0 on host1") && strings.Contains(got, "c2 on host3")
		if len(strings.Fields(got)) != 9 || !hasBoth {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	lab.Eventually(t, 10*time.Second, "a check finds a container of another host by its name", func() error {
		got, err := c.all[0].WeaveErr("check", "c0", "c2")
		if err != nil {
			return err
		}
		there := address(t, c.all[2], "c2", "app")
		want(t, got, "from c0 to "+there+" on host host3", "c2 is "+there+" for c0", "answers a ping", "bytes pass")
		return nil
	})
	if got := c.all[0].Weave(t, "ps", "--local", "--format", "{{.ContainerName}}"); got != "c0" {
		t.Errorf("its own are %q, want c0", got)
	}
	if got := c.all[0].Weave(t, "ipam"); strings.Count(got, "10.78.0.0/24") != 3 || strings.Count(got, "host") != 3 {
		t.Errorf("weave ipam:\n%s\nwant all three hosts to hold something of the subnet", got)
	}
	for i, h := range c.all {
		noPing(t, h, fmt.Sprintf("c%d", i), "10.99.99.99")
		ping(t, h, fmt.Sprintf("c%d", i), outside.Addr().String())
	}
	used := address(t, c.all[0], "c0", "app")
	_, err := c.all[1].DockerErr("run", "--rm", "--network", "app", "--ip", used, "busybox")
	if err == nil || !strings.Contains(err.Error(), "container c0 on host host1") {
		t.Errorf("an address of another host: %v, want an error that names container and host", err)
	}
	c.plugins[1].Restart(t)
	everybodyReaches("after a restart of weave")
	c.check(t, "after a restart of weave")
	c.etcd.Kill()
	everybodyReaches("without etcd")
	c.all[0].Run(t, "--network", "app", "--name", "late")
	c.etcd.Start(t)
	late := address(t, c.all[0], "late", "app")
	ping(t, c.all[2], "c2", late)
	c.check(t, "after etcd was away")
	c.all[0].Docker(t, "rm", "-f", "late")
	for i, h := range c.all {
		h.Docker(t, "rm", "-f", fmt.Sprintf("c%d", i))
		h.Docker(t, "network", "rm", "app")
		if out := h.Exec(t, "ip", "-o", "link"); strings.Contains(out, "wvx-") {
			t.Errorf("links are left: %s", out)
		}
	}
	lab.Eventually(t, 10*time.Second, "nothing of the network is in etcd", func() error {
		left, err := c.etcd.Get("weave/")
		if err == nil && strings.Contains(left, "app") {
			err = fmt.Errorf("%s", left)
		}
		return err
	})
}

// TestHostOfTheClusterDies: a host that loses its power is gone for the others, with its endpoints, and is back with
// its containers when it boots. One that does not come back can be forgotten: its addresses are the others' then. If it
// comes back all the same, it is there again.
func TestHostOfTheClusterDies(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 2)
	c.network(t, "app", "--subnet", "10.77.0.0/28")
	a, b := c.all[0], c.all[1]
	a.Run(t, "--network", "app", "--name", "c0", "--restart", "always")
	b.Run(t, "--network", "app", "--name", "c1")
	old := address(t, a, "c0", "app")
	ping(t, b, "c1", old)
	entries := func() string { return b.Exec(t, "bridge", "fdb") }
	if !strings.Contains(entries(), "dst 192.0.2.11") {
		t.Errorf("no entry leads to the first host:\n%s", entries())
	}
	a.PowerOff(t)
	lab.Eventually(t, 10*time.Second, "the entries of the host that died are gone", func() error {
		if out := entries(); strings.Contains(out, "dst 192.0.2.11") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	c.check(t, "when a host has died")
	// Its addresses are still its own.
	var names []string
	for i := 0; ; i++ {
		name := fmt.Sprintf("x%d", i)
		names = append(names, name)
		_, err := b.DockerErr("run", "-d", "--network", "app", "--name", name, "busybox", "sleep", "600")
		if err != nil {
			if !strings.Contains(err.Error(), "no free address is left in the cluster") {
				t.Errorf("container %d: %v, want that no address is left", i, err)
			}
			break
		}
		if address(t, b, name, "app") == old {
			t.Errorf("the second host hands out %s, which is that of a host that may come back", old)
		}
	}
	if want := 12; len(names) != want { // 14 less the gateway, c0 and c1, and one that fails
		t.Errorf("%d containers were started, want %d", len(names)-1, want-1)
	}
	b.Docker(t, append([]string{"rm", "-f"}, names...)...)
	if out := b.Weave(t, "hosts"); !strings.Contains(out, "gone") || !strings.Contains(out, "here") {
		t.Errorf("weave hosts:\n%s\nwant one host here and one gone", out)
	}
	boot := func(a *lab.Host) {
		t.Helper()
		a.PowerOn(t)
		c.plugins[0].Restart(t)
		a.StartDocker(t)
		lab.Eventually(t, 30*time.Second, "the container is back", func() error {
			out, err := a.DockerErr("inspect", "-f", "{{.NetworkSettings.Networks.app.IPAddress}}", "c0")
			if err == nil && strings.TrimSpace(out) == "" {
				err = fmt.Errorf("it has no address")
			}
			return err
		})
		ping(t, b, "c1", address(t, a, "c0", "app"))
		ping(t, a, "c0", address(t, b, "c1", "app"))
		c.check(t, "when the host is back")
	}
	boot(a)

	if _, err := b.WeaveErr("forget", "host1"); err == nil {
		t.Error("a host that is there is forgotten")
	}
	a.PowerOff(t)
	lab.Eventually(t, 10*time.Second, "the host is forgotten", func() error {
		_, err := b.WeaveErr("forget", "host1")
		return err
	})
	for _, command := range []string{"hosts", "ipam", "ps"} {
		lab.Eventually(t, 10*time.Second, "the end of the host in weave "+command, func() error {
			if out := b.Weave(t, command); strings.Contains(out, "host1") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
	if out, err := b.DockerErr("run", "--rm", "--network", "app", "--ip", old, "busybox", "true"); err != nil {
		t.Errorf("an address of a host that was forgotten: %v\n%s", err, out)
	}
	boot(a)
	for _, h := range []*lab.Host{a, b} {
		h.Docker(t, "rm", "-f", "c0", "c1")
		h.Docker(t, "network", "rm", "app")
	}
}

// TestBlockedPort: hosts that have a network in common find out that a firewall drops what goes between them, and tell
// it until it is open again.
func TestBlockedPort(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 2)
	c.network(t, "app", "--subnet", "10.75.0.0/24")
	a, b := c.all[0], c.all[1]
	shows := func(h *lab.Host, what, tunnel, warning string) {
		t.Helper()
		lab.Eventually(t, 90*time.Second, what, func() error {
			hosts := h.Weave(t, "hosts", "--format", "{{.Tunnel}}")
			warnings := strings.Join(status(t, h).Warnings, "\n")
			if strings.Contains(hosts, tunnel) && (warning == "" && warnings == "" ||
				warning != "" && strings.Contains(warnings, warning)) {
				return nil
			}
			return fmt.Errorf("tunnels %q and warnings %q", hosts, warnings)
		})
	}
	if out := a.Weave(t, "hosts", "--format", "{{.Tunnel}}"); strings.Contains(out, "ok") {
		t.Errorf("tunnels %q before there is a container", out)
	}
	a.Run(t, "--network", "app", "--name", "c0")
	b.Run(t, "--network", "app", "--name", "c1")
	shows(a, "the first host finds the tunnel good", "ok ", "")
	shows(b, "the second host finds the tunnel good", "ok ", "")
	b.Exec(t, "nft", "add table ip block; add chain ip block input { type filter hook input priority 0; }; "+
		"add rule ip block input udp dport 6784 drop")
	shows(a, "the first host tells", "blocked-out",
		"tunnel to host host2 (192.0.2.12): VXLAN packets come from there, but none arrive there: UDP port 6784")
	shows(b, "the second host tells", "blocked",
		"tunnel to host host1 (192.0.2.11): no VXLAN packets come from there")
	if out := a.Weave(t, "status"); !strings.Contains(out, "2 present; tunnels to 1 probed, 1 faulty") {
		t.Errorf("weave status:\n%s\nwant a faulty tunnel", out)
	}
	b.Exec(t, "nft", "delete table ip block")
	shows(a, "the first host is content", "ok ", "")
	shows(b, "the second host is content", "ok ", "")
	a.Docker(t, "rm", "-f", "c0")
	b.Docker(t, "rm", "-f", "c1")
	for _, h := range c.all {
		h.Docker(t, "network", "rm", "app")
		lab.Eventually(t, 10*time.Second, "the device for the probes is gone", func() error {
			if out := h.Exec(t, "ip", "-o", "link"); strings.Contains(out, "weave-probe") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
}

// TestLocalNetworkOnAHostOfACluster: what is one host's alone is never in etcd, and needs none.
func TestLocalNetworkOnAHostOfACluster(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 1)
	h := c.all[0]
	c.etcd.Kill()
	weaveNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	ping(t, h, "one", "two")
	_, err := h.DockerErr("network", "create", "-d", "weave", "--ipam-driver", "weave",
		"--ipam-opt", "works.weave.network=shared", "shared")
	if err == nil || !strings.Contains(err.Error(), "etcd can't be reached") {
		t.Errorf("a network of the cluster without etcd: %v, want an error that says why", err)
	}
	c.etcd.Start(t)
	lab.Eventually(t, 10*time.Second, "a network of the cluster", func() error {
		_, err := h.DockerErr("network", "create", "-d", "weave", "--ipam-driver", "weave",
			"--ipam-opt", "works.weave.network=shared", "shared")
		return err
	})
	c.check(t, "with a local network, and one of the cluster")
	left, err := c.etcd.Get("weave/networks/")
	if err != nil || strings.TrimSpace(left) != "weave/networks/shared" {
		t.Errorf("networks in etcd: %q, %v, want shared alone", left, err)
	}
	h.Docker(t, "rm", "-f", "one", "two")
	h.Docker(t, "network", "rm", "app", "shared")
}

// TestStateOfAHostIsLost: a weave without its state takes up the networks of the cluster that Docker has, with their
// containers, and what these use is its own when the host that it was before is forgotten.
func TestStateOfAHostIsLost(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 2, "--docker-interval", "6s")
	c.network(t, "app", "--subnet", "10.76.0.0/24")
	a, b := c.all[0], c.all[1]
	a.Run(t, "--network", "app", "--name", "c0")
	b.Run(t, "--network", "app", "--name", "c1")
	old := address(t, a, "c0", "app")
	ping(t, b, "c1", old)
	before := status(t, a).StateID
	c.plugins[0].Stop(t)
	if err := os.Remove(a.Path(statePath)); err != nil {
		t.Fatal(err)
	}
	c.plugins[0].Restart(t)
	lab.Eventually(t, 30*time.Second, "the container is on the network again, for both hosts", func() error {
		for _, h := range c.all {
			if out := h.Weave(t, "ps", "--format", "{{.ContainerName}}"); !strings.Contains(out, "c0") {
				return fmt.Errorf("%s", out)
			}
		}
		_, err := b.DockerErr("exec", "c1", "ping", "-c1", "-W1", old)
		return err
	})
	ping(t, a, "c0", address(t, b, "c1", "app"))
	warned := func() bool {
		isOf := func(w string) bool { return strings.Contains(w, "another host may give its address "+old) }
		return slices.ContainsFunc(status(t, a).Warnings, isOf)
	}
	lab.Eventually(t, 20*time.Second, "weave tells that the address is another host's", func() error {
		if !warned() {
			return fmt.Errorf("%q", status(t, a).Warnings)
		}
		return nil
	})
	lab.Eventually(t, 10*time.Second, "the host that it was is forgotten", func() error {
		_, err := b.WeaveErr("forget", before)
		return err
	})
	lab.Eventually(t, 60*time.Second, "the address is this host's", func() error {
		if warned() {
			return fmt.Errorf("%q", status(t, a).Warnings)
		}
		return nil
	})
	if _, err := b.DockerErr("run", "--rm", "--network", "app", "--ip", old, "busybox", "true"); err == nil {
		t.Error("the other host gives the address to a container of its own")
	}
	c.check(t, "when the host is another one")
	a.Docker(t, "rm", "-f", "c0")
	b.Docker(t, "rm", "-f", "c1")
	for _, h := range c.all {
		h.Docker(t, "network", "rm", "app")
	}
}
