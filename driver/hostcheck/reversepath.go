// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/api"
)

// ofReversePath judges the filter of the way back, which drops packets whose sender the host would not answer by the
// link that they came by.
func ofReversePath(f facts) (found []api.HostFinding) {
	of := func(link string) string {
		return max(f.sysctls[rpFilter("all")], f.sysctls[rpFilter(link)]) // both have one digit
	}
	programs := slices.ContainsFunc(f.kernel.features, func(x feature) bool {
		return x.name == tcPrograms && x.err == nil
	})
	for _, nw := range f.networks {
		if !nw.Foreign && len(nw.OwnGateways()) == 0 && of(nw.Bridge) == "2" && !programs {
			found = append(found, warning("set net.ipv4.conf.all.rp_filter to 0 or 1",
				"%s of bridge %s counts as 2, by which containers may send to the host", rpFilter("all"), nw.Bridge))
		}
	}
	uplinks := map[string]bool{}
	for _, r := range f.routes {
		if r.destination == netip.PrefixFrom(netip.IPv4Unspecified(), 0) && r.link != "" {
			uplinks[r.link] = true
		}
	}
	for _, link := range slices.Sorted(maps.Keys(uplinks)) {
		if len(uplinks) > 1 && of(link) == "1" {
			found = append(found, warning(fmt.Sprintf("set net.ipv4.conf.%s.rp_filter to 2", link),
				"the host has default routes out of %d links, and rp_filter is 1 at %s: what comes by the one that "+
					"the host does not answer by is dropped", len(uplinks), link))
		}
	}
	return each(found, "rp_filter drops nothing that networks need: %s is %s", rpFilter("all"),
		f.sysctls[rpFilter("all")])
}

// rpFilter is the sysctl of a link.
func rpFilter(link string) string { return "net/ipv4/conf/" + link + "/rp_filter" }
