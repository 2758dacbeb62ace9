// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"
)

// TestNsprocByHand: weave nsproc shows what nsproc and the kernel say to each other in a container, and configures its
// end once more.
func TestNsprocByHand(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "byhand", "-o", "works.weave.multicast=1")
	h.Run(t, "--network", "byhand", "--name", "byhand")
	e := awaitEndpoints(t, h, 1)[0]

	out := h.Weave(t, "nsproc", "--endpoint", "byhand", "--trace")
	want(t, out, "of byhand on byhand", e.Sandbox, "> RTM_GETLINK REQUEST", `IFLA_IFNAME: "eth0"`, e.MAC,
		"< NLMSG_DONE MULTI ok", `"destination": "224.0.0.0/4"`)

	h.Exec(t, "nsenter", "--net="+e.Sandbox, "ip", "route", "del", "224.0.0.0/4")
	out = h.Weave(t, "nsproc", "--endpoint", e.ID, "--request", "configure", "--trace")
	want(t, out, "> RTM_NEWROUTE REQUEST|ACK|REPLACE|CREATE", "RTA_DST: 224.0.0.0", "< NLMSG_ERROR CAPPED ok")
	if routes := h.Exec(t, "nsenter", "--net="+e.Sandbox, "ip", "route"); !strings.Contains(routes, "224.0.0.0/4") {
		t.Errorf("the multicast route was not set again: %s", routes)
	}

	h.Exec(t, "nsenter", "--net="+e.Sandbox, "ip", "link", "set", "eth0", "down")
	out, err := h.WeaveErr("nsproc", "--endpoint", e.ID, "--request", "configure", "--trace")
	if err == nil {
		t.Fatalf("nsproc configures a link that is down: %s", out)
	}
	want(t, out+err.Error(),
		"ENETDOWN (network is down)", e.Sandbox, "RTM_NEWROUTE: refused by the kernel: network is down")
}
