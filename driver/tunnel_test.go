// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestTunnelIsGuarded: VXLAN packets are taken from the hosts of the cluster alone, also when weave starts
// without etcd, and no rule is left when this host is in no cluster any more.
func TestTunnelIsGuarded(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, etcd := newClusterRig(t)
	rules := func() string {
		out, _ := exec.Command("nft", "list", "ruleset").Output()
		return string(out)
	}
	eventually(t, "nothing is taken as long as there is no other host", func() bool {
		return strings.Contains(rules(), "udp dport 6784")
	})
	newOtherHost(t, etcd)
	eventually(t, "packets of another host are taken", func() bool { return strings.Contains(rules(), "192.0.2.2") })
	eventually(t, "the other host is remembered", func() bool {
		r.stop()
		r.start()
		return strings.Contains(rules(), "192.0.2.2")
	})
	etcd.Kill(t, 0)
	r.stop()
	mustRun(t, "nft flush ruleset")
	r.start()
	if got := rules(); !strings.Contains(got, "192.0.2.2") {
		t.Errorf("rules without etcd:\n%s\nwant one with the host that was there last", got)
	}
	r.stop()
	r.join = nil
	r.start()
	if got := rules(); strings.Contains(got, "udp dport") {
		t.Errorf("rules without a cluster:\n%s\nwant none about its port", got)
	}
}
