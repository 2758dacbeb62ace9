// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// TestWhoseAddressIsSeenOutside: by each value of works.weave.nat, over TCP and UDP alike, what containers send is seen
// outside with the host's address or with their own. What one with published or exposed ports sends by IPv4 leaves over
// Docker's bridge, unless the network is native. From an internal network nothing leaves.
func TestWhoseAddressIsSeenOutside(t *testing.T) {
	h := routedHost(t, "sources")
	kinds := []struct {
		network, options string
		// As whom containers without ports, with exposed ones, and with published ones are seen by IPv4 and IPv6.
		plain, exposed, published string
	}{
		{"both", "auto", "host host", "host host", "host host"},
		{"no", "auto -o works.weave.nat=no", "own own", "host own", "host own"},
		{"ipv4", "auto -o works.weave.nat=ipv4", "host own", "host own", "host own"},
		{"ipv6", "auto -o works.weave.nat=ipv6", "own host", "host host", "host host"},
		{"bridges", "auto -o com.docker.network.bridge.enable_ip_masquerade=false", "own own", "host own", "host own"},
		{"native", "native", "host host", "host host", "refused"},
		{"native-no", "native -o works.weave.nat=no", "own own", "own own", "refused"},
		{"dockers", "docker", "host none", "host none", "host none"},
		{"inner", "docker --internal", "none none", "none none", "none none"},
	}
	type client struct{ name, network, ports, ipv4, ipv6 string }
	var clients []client
	for i, k := range kinds {
		gatewayNetwork(t, h, k.network, 20+i, strings.Fields("-o works.weave.gateway="+k.options)...)
		for ports, as := range map[string]string{"": k.plain, "--expose=80": k.exposed, "--publish=80": k.published} {
			if ipv4, ipv6, ok := strings.Cut(as, " "); ok {
				c := client{fmt.Sprint("client", len(clients)), k.network, ports, ipv4, ipv6}
				clients = append(clients, c)
				t.Cleanup(func() { h.Docker(t, "rm", "-f", c.name) })
			}
		}
	}
	inParallel(t, 4, len(clients), func(i int) error {
		c := clients[i]
		args := fmt.Sprintf("run -d --network %s --name %s %s %s", c.network, c.name, c.ports, lab.Image)
		_, err := h.DockerErr(strings.Fields(args)...)
		return err
	})
	for _, c := range clients {
		a := attachmentOf(t, h, c.name, c.network)
		ipv4 := map[string]string{"own": a.IPAddress, "host": sharedAddress.Addr().String()}[c.ipv4]
		ipv6 := map[string]string{"own": a.GlobalIPv6Address, "host": sharedAddress6}[c.ipv6]
		what := fmt.Sprintf("a container on network %s, %q", c.network, c.ports)
		seenOutside(t, what, sandboxOf(t, h, c.name), ipv4, ipv6)
	}
}
