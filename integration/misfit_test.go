// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// TestHostsThatDoNotFit: what keeps two hosts from reaching each other, though etcd has no objection, is told by both,
// as long as it is so: another port, the other's address, and containers that have one MAC.
func TestHostsThatDoNotFit(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 2)
	c.network(t, "app", "--subnet", "10.76.0.0/24")
	a, b := c.all[0], c.all[1]
	a.Run(t, "--network", "app", "--name", "c0")
	b.Run(t, "--network", "app", "--name", "c1")
	restart := func(options ...string) {
		t.Helper()
		c.plugins[1].Kill()
		c.plugins[1] = b.StartPlugin(t,
			append([]string{"--cluster", c.etcd.Address(), "--cluster-lease", "3s"}, options...)...)
	}
	tells := func(h *lab.Host, warning string) {
		t.Helper()
		lab.Eventually(t, 90*time.Second, h.Name()+" tells: "+warning, func() error {
			if got := strings.Join(status(t, h).Warnings, "\n"); !strings.Contains(got, warning) {
				return fmt.Errorf("warnings %q", got)
			}
			return nil
		})
	}
	restart("--cluster-port", "6785")
	tells(a, "it takes VXLAN packets at UDP port 6785, and this host at 6784")
	tells(b, "it takes VXLAN packets at UDP port 6784, and this host at 6785")
	restart("--cluster-address", "192.0.2.11")
	tells(a, "tunnel to host host2 (192.0.2.11): its address 192.0.2.11 is also that of this host")
	tells(b, "tunnel to host host1 (192.0.2.11): its address 192.0.2.11 is also that of this host")
	restart()
	lab.Eventually(t, 90*time.Second, "the hosts fit", func() error {
		if got := append(status(t, a).Warnings, status(t, b).Warnings...); len(got) > 0 {
			return fmt.Errorf("warnings %q", got)
		}
		return nil
	})
	ping(t, a, "c0", address(t, b, "c1", "app"))

	c.etcd.Kill()
	for i, h := range c.all {
		h.Run(t, "--network", "app", "--name", fmt.Sprintf("twin%d", i), "--mac-address", "02:00:00:00:76:01")
	}
	c.etcd.Start(t)
	for i, h := range c.all {
		tells(h, fmt.Sprintf("container twin%d on host host%d and container twin%d on host host%d have one MAC",
			i, i+1, 1-i, 2-i))
	}
	b.Docker(t, "rm", "-f", "twin1")
	lab.Eventually(t, 30*time.Second, "there are no twins any more", func() error {
		for _, h := range c.all {
			if got := strings.Join(status(t, h).Warnings, "\n"); strings.Contains(got, "one MAC") {
				return fmt.Errorf("%s: warnings %q", h.Name(), got)
			}
		}
		return nil
	})
}
