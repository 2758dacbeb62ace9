// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// ways are the values of the option that says whose rules apply to the frames inside a network.
var ways = []string{"none", "host"}

// TestRulesOfOthers: containers of one network reach each other under rules that other programs make, by either way.
// Each check opens new connections: to connection tracking those of before would go on as they began.
func TestRulesOfOthers(t *testing.T) {
	h := firewalledHost(t, "nft")
	for _, way := range ways {
		weaveNetwork(t, h, "by-"+way, "--ipv6", "-o", "works.weave.firewall="+way, "--ipam-driver", "weave",
			"-o", "works.weave.gateway=docker")
		serve(t, h, "by-"+way)
	}
	for _, rule := range []string{
		"iptables -t nat -A POSTROUTING -j MASQUERADE",
		"ip6tables -t nat -A POSTROUTING -j MASQUERADE",
		"iptables -t nat -I POSTROUTING -s 10.0.0.0/8 ! -o eth0 -j MASQUERADE",
		"iptables -t raw -A PREROUTING -d 10.32.0.0/12 ! -i br-other -j DROP",
	} {
		h.Exec(t, "sh", "-c", strings.Replace(rule, " ", " -w ", 1))
		for _, way := range ways {
			fetch(t, h, "by-"+way, "under "+rule)
		}
	}
}

// TestRuleThatDockerLeft: Docker has lost its networks and left the rule that masquerades those of docker_gwbridge,
// whose subnet a weave network has now.
func TestRuleThatDockerLeft(t *testing.T) {
	if usesNftables() {
		t.Skip("Docker's rules go with its table of nftables")
	}
	h := firewalledHost(t, "nft")
	weaveNetwork(t, h, "first", "-o", "works.weave.gateway=docker")
	h.Run(t, "--network", "first")
	if rules := h.Exec(t, "iptables", "-w", "-t", "nat", "-S", "POSTROUTING"); !strings.Contains(rules, "MASQUERADE") {
		t.Fatalf("no rule that masquerades:\n%s", rules)
	}
	h.StopDocker(t)
	h.Exec(t, "rm", "-rf", "/var/lib/docker/network")
	h.Exec(t, "ip", "link", "del", "docker_gwbridge")
	h.StartDocker(t)
	h.Exec(t, "iptables", "-w", "-P", "FORWARD", "DROP")
	for i, way := range ways {
		// The rule that was left is `-s SUBNET ! -o docker_gwbridge -j MASQUERADE`, and there is no such bridge now.
		subnet := []string{"172.18.0.0/24", "172.18.1.0/24"}[i]
		weaveNetwork(t, h, "by-"+way, "--internal", "--subnet", subnet, "-o", "works.weave.firewall="+way)
		serve(t, h, "by-"+way)
		fetch(t, h, "by-"+way, "beside the rule that Docker left")
	}
}

// serve runs a web server and a client on a network, which are named after it.
func serve(t *testing.T, h *lab.Host, network string) {
	t.Helper()
	h.RunCommand(t, []string{"--network", network, "--name", network + "-web"}, "httpd", "-f", "-h", "/www")
	h.Run(t, "--network", network, "--name", network+"-client")
}

// fetch fails the test if the client does not get the server's page over a new connection, or a ping is not answered.
func fetch(t *testing.T, h *lab.Host, network, when string) {
	t.Helper()
	address := attachmentOf(t, h, network+"-web", network).IPAddress
	const get = `printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 "$0" 80`
	page, err := h.DockerErr("exec", network+"-client", "sh", "-c", get, address)
	if err != nil || !strings.Contains(page, strings.TrimSpace(lab.Page)) {
		t.Errorf("network %s, %s: got %q: %v", network, when, page, err)
	}
	if err := pingErr(h, network+"-client", network+"-web"); err != nil {
		t.Errorf("network %s, %s: %v", network, when, err)
	}
}

// checkPrograms checks that the host end of an endpoint has the programs that tag frames and guard the network, each
// once.
func checkPrograms(t *testing.T, h *lab.Host, e api.Endpoint) {
	t.Helper()
	for direction, want := range map[string]string{"ingress": "weave:tag,no-ra,no-dhcp:", "egress": "weave:pop:"} {
		filters := h.Exec(t, "tc", "filter", "show", "dev", e.HostEnd, direction)
		if strings.Count(filters, want) != 1 || strings.Count(filters, "weave:") != 1 {
			t.Errorf("%s of %s: want one %s:\n%s", direction, e.HostEnd, want, filters)
		}
	}
}

// TestProgramsOutliveWeave: while no weave runs, traffic goes on and the network is guarded; the next weave attaches
// nothing twice.
func TestProgramsOutliveWeave(t *testing.T) {
	h, p := startHost(t, "programs")
	weaveNetwork(t, h, "app", "--internal")
	serve(t, h, "app")
	before := awaitEndpoints(t, h, 2)
	p.Kill()
	fetch(t, h, "app", "while weave is killed")
	for _, e := range before {
		checkPrograms(t, h, e)
	}
	p.Restart(t)
	for _, e := range awaitEndpoints(t, h, 2) {
		checkPrograms(t, h, e)
	}
	fetch(t, h, "app", "after weave was started again")
	if s := status(t, h); len(s.Reconcile.Actions) > 0 {
		t.Errorf("the start has done %q", s.Reconcile.Actions)
	}
}

// TestDHCP: on a network without IPAM, containers get addresses from a DHCP server in a container, if that is a router.
func TestDHCP(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "lan", "--internal", "--ipam-driver", "null")
	for name, option := range map[string]string{"hostile": "", "server": ",driver-opt=works.weave.router=true"} {
		h.Run(t, "--network", "name=lan"+option, "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW", "--name", name)
		h.Docker(t, "exec", name, "ip", "address", "add", "10.99.0.1/24", "dev", "eth0")
		config := "interface eth0\\nstart 10.99.0.20\\nend 10.99.0.200\\n"
		h.Docker(t, "exec", name, "sh", "-c", "mkdir -p /var/lib/misc; touch /var/lib/misc/udhcpd.leases; "+
			"printf '"+config+"' >/etc/udhcpd.conf")
	}
	h.Run(t, "--network", "lan", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW", "--name", "client")
	ask := func() (string, error) {
		const client = "udhcpc -i eth0 -n -q -t 2 -T 1 -s /bin/true"
		return h.DockerErr("exec", "client", "sh", "-c", client)
	}
	h.Docker(t, "exec", "-d", "hostile", "udhcpd", "-f", "/etc/udhcpd.conf")
	if out, err := ask(); err == nil {
		t.Errorf("a container that is no router gave an address:\n%s", out)
	}
	h.Docker(t, "exec", "-d", "server", "udhcpd", "-f", "/etc/udhcpd.conf")
	lab.Eventually(t, 20*time.Second, "an address from the server", func() error {
		_, err := ask()
		return err
	})
}
