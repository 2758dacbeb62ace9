// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/weaveplugin/weave/integration/lab"
)

// resolve returns the addresses that a container gets for a name, sorted; none: it gets an error.
func resolve(h *lab.Host, container, name string) []string {
	out, err := h.DockerErr("exec", container, "nslookup", name, "127.0.0.11")
	if err != nil {
		return nil
	}
	_, answer, _ := strings.Cut(out, "Name:")
	var found []string
	for line := range strings.Lines(answer) {
		if key, value, _ := strings.Cut(line, ":"); strings.HasPrefix(key, "Address") {
			found = append(found, strings.TrimSpace(value))
		}
	}
	slices.Sort(found)
	return found
}

// sorted returns the addresses of all lists, sorted.
func sorted(lists ...[]string) []string { return slices.Sorted(slices.Values(slices.Concat(lists...))) }

// resolveByGlibc returns the addresses that the C library of the host gets for a name in a container's network and with
// its resolv.conf, sorted. It asks for IPv4 and IPv6 addresses at once, over one socket.
func resolveByGlibc(t *testing.T, h *lab.Host, container, name string) []string {
	t.Helper()
	const state = "{{.State.Pid}} {{.ResolvConfPath}}"
	found := strings.Fields(h.Docker(t, "inspect", "-f", state, container))
	out := h.Exec(t, "nsenter", "--net=/proc/"+found[0]+"/ns/net", "unshare", "--mount", "sh", "-c",
		`mount --bind "$0" /etc/resolv.conf && getent ahosts "$1" | awk '$2 == "STREAM" {print $1}'`, found[1], name)
	return sorted(strings.Fields(out))
}

// awaitName waits until a container gets these addresses for a name; none: until it gets an error.
func awaitName(t *testing.T, h *lab.Host, container, name string, want ...string) {
	t.Helper()
	slices.Sort(want)
	lab.Eventually(t, 15*time.Second, fmt.Sprintf("%s finds %s at %v", container, name, want), func() error {
		if got := resolve(h, container, name); !slices.Equal(got, want) {
			return fmt.Errorf("it gets %v", got)
		}
		return nil
	})
}

// TestNamesBetweenHosts: containers find those on other hosts by their names and aliases, on networks that they are
// on, and no others, as long as those are there.
func TestNamesBetweenHosts(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 2)
	c.network(t, "app", "--subnet", "10.76.0.0/24", "--ipv6", "--subnet", "fd00:76::/64")
	c.network(t, "other", "--subnet", "10.75.0.0/24")
	a, b := c.all[0], c.all[1]
	a.Run(t, "--network", "app", "--name", "a1", "--network-alias", "web")
	b.Run(t, "--network", "app", "--name", "b1", "--network-alias", "web")
	b.Run(t, "--network", "app", "--name", "b2", "--network-alias", "Web", "--network-alias", "svc.example")
	b.Run(t, "--network", "other", "--name", "b3")
	a.Run(t, "--network", "container:a1", "--name", "beside-a1")
	a1, b1, b2, b3 := addresses(t, a, "a1", "app"), addresses(t, b, "b1", "app"), addresses(t, b, "b2", "app"),
		addresses(t, b, "b3", "other")
	awaitName(t, a, "a1", "b1", b1...)
	awaitName(t, b, "b1", "a1", a1...)
	awaitName(t, a, "a1", "B1.APP", b1...)
	awaitName(t, a, "a1", "svc.example", b2...)
	awaitName(t, a, "a1", "web", slices.Concat(a1, b1, b2)...)
	awaitName(t, b, "b1", "web", slices.Concat(a1, b1, b2)...)
	awaitName(t, a, "beside-a1", "b1", b1...)
	awaitName(t, b, "b1", "b2", b2...) // Docker's own
	c.check(t, "with two networks of two families")
	awaitName(t, a, "a1", "b3") // on a network that a1 is not on
	for _, addr := range b1 {
		if out := a.Docker(t, "exec", "a1", "nslookup", addr, "127.0.0.11"); !strings.Contains(out, "name = b1.app") {
			t.Errorf("the name of %s: %s", addr, out)
		}
	}
	if got := ask(t, dialIn(t, a, "a1", "tcp4"), "b1."); !slices.Equal(got, b1[:1]) {
		t.Errorf("b1 by TCP: %v, want %v", got, b1[:1])
	}
	if got := ask(t, dialIn(t, a, "a1", "tcp4"), "a1."); !slices.Equal(got, a1[:1]) {
		t.Errorf("a1, which Docker knows, by TCP: %v, want %v", got, a1[:1])
	}

	if got := resolveByGlibc(t, a, "a1", "web"); !slices.Equal(got, sorted(a1, b1, b2)) {
		t.Errorf("web, by glibc: %v, want %v", got, sorted(a1, b1, b2))
	}

	a.Docker(t, "network", "connect", "other", "a1")
	awaitName(t, a, "a1", "b3", b3...)
	awaitName(t, a, "a1", "b1", b1...)
	a.Docker(t, "network", "disconnect", "other", "a1")
	awaitName(t, a, "a1", "b3")
	b.Docker(t, "rename", "b2", "renamed")
	awaitName(t, a, "a1", "renamed", b2...)
	b.Docker(t, "rm", "-f", "renamed")
	awaitName(t, a, "a1", "renamed")
	awaitName(t, a, "a1", "web", slices.Concat(a1, b1)...)
	c.plugins[1].Kill() // and the lease runs out: the host is gone for the others
	awaitName(t, a, "a1", "b1")
	c.check(t, "when weave was killed on a host")
	c.plugins[1].Restart(t)
	awaitName(t, a, "a1", "b1", b1...)
	for i := range 2 { // nothing of the names keeps a sandbox
		a.Docker(t, "restart", "-t", "0", "a1")
		if n := strings.Count(a.Exec(t, "ip", "-o", "link"), "wve-"); n != 1 {
			t.Errorf("%d host ends after %d restarts, want 1", n, i+1)
		}
	}
}

// TestNamesByIPv6Alone: on a network without IPv4 names are found as on others.
func TestNamesByIPv6Alone(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 2)
	if !announced(t, c.all[0]) {
		t.Skip("Docker before 28 has no networks without IPv4")
	}
	found := make([]string, len(c.all))
	for i, h := range c.all {
		post(t, h, "/networks/create", `{"Name":"six","Driver":"weave","EnableIPv4":false,"EnableIPv6":true,"IPAM":{
			"Driver":"weave","Options":{"works.weave.network":"six"},"Config":[{"Subnet":"fd00:73::/64"}]}}`)
		h.Run(t, "--network", "six", "--name", fmt.Sprintf("s%d", i))
		found[i] = attachmentOf(t, h, fmt.Sprintf("s%d", i), "six").GlobalIPv6Address
	}
	for i, h := range c.all {
		other := 1 - i
		awaitName(t, h, fmt.Sprintf("s%d", i), fmt.Sprintf("s%d", other), found[other])
		if got := resolveByGlibc(t, h, fmt.Sprintf("s%d", i), "S0.six"); !slices.Equal(got, found[:1]) {
			t.Errorf("s0 from s%d, by glibc: %v, want %s", i, got, found[0])
		}
	}
}

// TestNamesBesideLegacyRules: Docker's rules for its resolver may be those of legacy iptables, which the kernel keeps
// apart from nftables.
func TestNamesBesideLegacyRules(t *testing.T) {
	t.Parallel()
	u := lab.NewUnderlay(t, outside)
	c := &hosts{etcd: u.StartEtcd(t)}
	for i := range 2 {
		address := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}), 24)
		h := lab.Start(t, lab.Options{Name: fmt.Sprintf("old%d", i), NoDocker: true, Underlay: u, Address: address})
		startDockerWith(t, h, "legacy")
		h.StartPlugin(t, "--cluster", c.etcd.Address())
		c.all = append(c.all, h)
	}
	c.network(t, "app")
	for i, h := range c.all {
		h.Run(t, "--network", "app", "--name", fmt.Sprintf("c%d", i))
	}
	for i, h := range c.all {
		for j, other := range c.all {
			name := fmt.Sprintf("c%d", j)
			awaitName(t, h, fmt.Sprintf("c%d", i), name, addresses(t, other, name, "app")...)
		}
	}
}

// TestNamesWhileWeaveIsAway: a client that asks all the time, with one socket, gets each answer while weave is killed
// and comes back, and the names of other hosts are there again afterwards. Names are Docker's while weave is stopped,
// too.
func TestNamesWhileWeaveIsAway(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 2)
	c.network(t, "app", "--subnet", "10.74.0.0/24")
	a, b := c.all[0], c.all[1]
	a.Run(t, "--network", "app", "--name", "a1")
	b.Run(t, "--network", "app", "--name", "b1")
	a1, b1 := addresses(t, a, "a1", "app"), addresses(t, b, "b1", "app")
	awaitName(t, a, "a1", "b1", b1...)
	stop, stopped := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	client := dialIn(t, a, "a1", "udp4")
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			// What weave was asked just before it is killed is lost, and a client asks again.
			got := ask(t, client, "a1.")
			if !slices.Equal(got, a1) {
				t.Logf("question %d is asked again: %v", asked.Load(), got)
				got = ask(t, client, "a1.")
			}
			if !slices.Equal(got, a1) {
				t.Errorf("question %d: %v, want %v", asked.Load(), got, a1)
			}
			asked.Add(1)
		}
	}()
	for asked.Load() < 10 {
		c.plugins[0].Restart(t) // which kills it
		awaitName(t, a, "a1", "b1", b1...)
	}
	close(stop)
	<-stopped
	c.plugins[0].Suspend(t)
	awaitName(t, a, "a1", "a1", a1...)
	c.plugins[0].Resume(t)
	awaitName(t, a, "a1", "b1", b1...)
	t.Cleanup(func() { c.plugins[0].Restart(t) }) // for the removals at the end of t
	c.plugins[0].Stop(t)
	awaitName(t, a, "a1", "a1", a1...)
	awaitName(t, a, "a1", "b1")
}

// TestNamesWhenDockerIsKilled: what weave passes on goes to the new resolver of a Docker that was killed and started
// again beside running containers, also for a client that goes on with its socket.
func TestNamesWhenDockerIsKilled(t *testing.T) {
	t.Parallel()
	u := lab.NewUnderlay(t, outside)
	c := &hosts{etcd: u.StartEtcd(t), engines: dockerNetworks}
	h := lab.Start(t, lab.Options{
		Name: "host1", Underlay: u, Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, 11}), 24),
		DockerArgs: []string{"--live-restore"},
	})
	c.all, c.plugins = []*lab.Host{h}, []*lab.Plugin{h.StartPlugin(t, "--cluster", c.etcd.Address())}
	c.network(t, "app", "--internal")
	h.Run(t, "--network", "app", "--name", "a1", "--dns", outside.Addr().String())
	h.Run(t, "--network", "app", "--name", "a2")
	a2 := addresses(t, h, "a2", "app")
	lab.Eventually(t, 10*time.Second, "weave is in the sandboxes", func() error {
		if n := strings.Count(c.plugins[0].Logged(t), "names: open"); n != 2 {
			return fmt.Errorf("in %d", n)
		}
		return nil
	})
	client := dialIn(t, h, "a1", "udp4")
	if got := ask(t, client, "a2."); !slices.Equal(got, a2) {
		t.Errorf("a2: %v, want %v", got, a2)
	}
	h.KillDocker(t)
	h.StartDocker(t)
	awaitName(t, h, "a1", "a2", a2...)
	if got := ask(t, client, "a2."); !slices.Equal(got, a2) {
		t.Errorf("a2, asked by the client of before: %v, want %v", got, a2)
	}
	c.check(t, "when Docker is back")
}

// addresses returns a container's addresses on a network, IPv4 first.
func addresses(t *testing.T, h *lab.Host, container, network string) []string {
	t.Helper()
	attached := attachmentOf(t, h, container, network)
	out := []string{attached.IPAddress}
	if attached.GlobalIPv6Address != "" {
		out = append(out, attached.GlobalIPv6Address)
	}
	return out
}

// dialIn returns a connection to Docker's resolver from inside a container.
func dialIn(t *testing.T, h *lab.Host, container, network string) net.Conn {
	t.Helper()
	pid := h.Docker(t, "inspect", "-f", "{{.State.Pid}}", container)
	var conn net.Conn
	err := lab.Inside(h.Path("/proc/"+pid+"/ns/net"), func() (err error) {
		conn, err = net.DialTimeout(network, "127.0.0.11:53", 10*time.Second)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask asks for the IPv4 addresses of a name, and returns them or an error.
func ask(t *testing.T, conn net.Conn, name string) []string {
	t.Helper()
	var m dnsmessage.Message
	m.ID, m.RecursionDesired = 7, true
	m.Questions = []dnsmessage.Question{
		{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
	}
	question, err := m.Pack()
	if err != nil {
		return []string{err.Error()}
	}
	length := 0
	if conn.LocalAddr().Network() == "tcp" {
		length = 2
		question = append([]byte{0, byte(len(question))}, question...)
	}
	buf, n := make([]byte, 512), 0
	if err = conn.SetDeadline(time.Now().Add(5 * time.Second)); err == nil {
		_, err = conn.Write(question)
	}
	for err == nil && n <= length { // by TCP the length may come alone
		var more int
		more, err = conn.Read(buf[n:])
		n += more
	}
	if err == nil {
		err = m.Unpack(buf[length:n])
	}
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, r := range m.Answers {
		if a, ok := r.Body.(*dnsmessage.AResource); ok {
			out = append(out, netip.AddrFrom4(a.A).String())
		}
	}
	return out
}
