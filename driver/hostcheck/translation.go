// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"maps"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver/firewall"
)

// translates are the targets by which rules change addresses.
var (
	sourceTargets      = []string{"MASQUERADE", "SNAT", "NETMAP"}
	destinationTargets = []string{"DNAT", "REDIRECT", "NETMAP"}
)

// ofTranslation judges whether rules that are not weave's change the addresses of what leaves networks.
func ofTranslation(f facts) (found []api.HostFinding) {
	sources, destinations := droppers{}, droppers{}
	for _, nw := range f.networks {
		for _, g := range nw.OwnGateways() {
			ipv6 := g.Addr().Is6()
			for _, c := range f.rules {
				if !c.NAT || c.Own || c.Bridge || ipv6 && !c.IPv6 || !ipv6 && !c.IPv4 {
					continue
				}
				w := walk{packet: leaving(c.Hook, nw.Bridge, f.uplink(ipv6))}
				switch {
				case c.Hook == firewall.Postrouting && !nw.Translates(g.Addr()):
					sources.add(w.translation(c.Rules, sourceTargets), nw)
				case c.Hook == firewall.Prerouting:
					destinations.add(w.translation(c.Rules, destinationTargets), nw)
				}
			}
		}
	}
	for _, by := range slices.Sorted(maps.Keys(sources)) {
		found = append(found, failed("have that rule leave out the networks' subnets (! -s SUBNET)",
			"what leaves %s is to keep its address, and gets the host's by %s", strings.Join(sources[by], ", "), by))
	}
	for _, by := range slices.Sorted(maps.Keys(destinations)) {
		found = append(found, warning("have that rule leave out weave's bridges (! -i wvg-+), unless it is meant",
			"what leaves %s gets another destination by %s", strings.Join(destinations[by], ", "), by))
	}
	return each(found, "no rule of others changes the addresses of what leaves networks")
}

// translation returns the rule that changes the packet's address; empty: none does.
func (w *walk) translation(rules []firewall.ChainRule, targets []string) string {
	for _, r := range rules {
		switch {
		case !w.isMeant(r) || r.If:
			continue
		case slices.Contains(targets, r.Target):
			return r.Table + ": " + r.Text
		case r.Target == "ACCEPT" || r.Target == "RETURN":
			return ""
		}
		if by := w.translation(r.Jump, targets); by != "" {
			return by
		}
	}
	return ""
}
