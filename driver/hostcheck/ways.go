// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"maps"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
)

// droppers gathers what drops packets, with the networks whose packets it drops.
type droppers map[string][]string

func (d droppers) add(by string, nw driver.Network) {
	if name := nw.Bridge; by != "" && !slices.Contains(d[by], name) {
		d[by] = append(d[by], name)
	}
}

// findings returns one for each dropper.
func (d droppers) findings(result func(advice, format string, args ...any) api.HostFinding, advice, what string,
) (found []api.HostFinding) {
	for _, by := range slices.Sorted(maps.Keys(d)) {
		found = append(found, result(advice, "%s of %s: dropped by %s", what, strings.Join(d[by], ", "), by))
	}
	return found
}

const letPass = "let what comes from and goes to weave's bridges pass there, before that rule"

// ofWayOut judges whether packets leave the networks that have gateways of their own, and the answers come back.
func ofWayOut(f facts) (found []api.HostFinding) {
	sure, maybe := droppers{}, droppers{}
	networks := 0
	families := map[bool]bool{}
	for _, nw := range f.networks {
		gateways := nw.OwnGateways()
		if len(gateways) > 0 {
			networks++
		}
		for _, g := range gateways {
			ipv6 := g.Addr().Is6()
			families[ipv6] = true
			uplink := f.uplink(ipv6)
			for _, c := range filters(f.rules, ipv6, firewall.Prerouting, firewall.Forward, firewall.Postrouting) {
				by, unsure := fate(c, leaving(c.Hook, nw.Bridge, uplink))
				if unsure {
					maybe.add(by, nw)
				} else {
					sure.add(by, nw)
				}
				if by, unsure := fate(c, answering(c.Hook, nw.Bridge, uplink)); !unsure {
					sure.add(by, nw)
				}
			}
		}
	}
	for _, ipv6 := range []bool{false, true} {
		name := map[bool]string{false: "net/ipv4/ip_forward", true: "net/ipv6/conf/all/forwarding"}[ipv6]
		if families[ipv6] && f.sysctls[name] == "0" {
			found = append(found, failed("weave sets it within a minute; if it does not stay, another program resets "+
				"it: look in /etc/sysctl.d", "%s is 0, so the host routes nothing out of networks", name))
		}
	}
	found = append(found, sure.findings(failed, letPass, "what leaves networks, or answers to it,")...)
	found = append(found, maybe.findings(warning, letPass, "what leaves networks, unless a rule before accepts it,")...)
	if f.rulesErr != nil {
		found = append(found, unknown("not all rules of the host can be read: %v", f.rulesErr))
	}
	return each(found, "packets leave %d networks by their own gateways, and no rule of others is in their way",
		networks)
}

// leaving is a packet from a bridge to the outside, at a hook.
func leaving(h firewall.Hook, bridge, uplink string) packet {
	return at(h, packet{in: bridge, out: uplink})
}

// answering is the answer to it.
func answering(h firewall.Hook, bridge, uplink string) packet {
	return at(h, packet{in: uplink, out: bridge, answer: true})
}

// at leaves out the link that is not known at a hook.
func at(h firewall.Hook, p packet) packet {
	switch h {
	case firewall.Prerouting:
		p.out = ""
	case firewall.Postrouting:
		p.in = ""
	}
	return p
}

// uplink is a link that a default route leads out of; empty: there is none.
func (f facts) uplink(ipv6 bool) string {
	for _, r := range f.routes {
		if r.destination.Bits() == 0 && r.destination.Addr().Is6() == ipv6 && r.link != "" {
			return r.link
		}
	}
	return ""
}

// bridgeFilter are the sysctls by which frames inside a network pass the host's rules.
var bridgeFilter = map[bool]string{
	false: "net/bridge/bridge-nf-call-iptables", true: "net/bridge/bridge-nf-call-ip6tables",
}

// ofInside judges whether rules of the host drop frames inside networks: those of nftables' tables of bridges, and,
// where frames are not tagged and br_netfilter is on, all others.
func ofInside(f facts) (found []api.HostFinding) {
	all, asked, unasked := droppers{}, droppers{}, droppers{}
	untagged := 0
	for _, nw := range f.networks {
		const port = "wve-" // that is how the names of host ends begin
		for _, c := range f.rules {
			if c.Bridge {
				by, unsure := fate(c, at(c.Hook, packet{in: port, out: port}))
				if !unsure {
					all.add(by, nw)
				}
			}
		}
		if nw.Tagged {
			continue
		}
		untagged++
		into := unasked
		if nw.Foreign || nw.Firewall == driver.FirewallHost {
			into = asked
		}
		for _, p := range nw.Pools {
			ipv6 := p.Subnet.Addr().Is6()
			if f.sysctls[bridgeFilter[ipv6]] != "1" {
				continue
			}
			for _, c := range filters(f.rules, ipv6, firewall.Prerouting, firewall.Forward, firewall.Postrouting) {
				by, unsure := fate(c, at(c.Hook, packet{in: nw.Bridge, out: nw.Bridge}))
				if !unsure {
					into.add(by, nw)
				}
			}
		}
	}
	found = append(found,
		all.findings(failed, "remove that rule, or let ports wve-… pass before it", "frames inside")...)
	found = append(found, unasked.findings(failed, letPass, "frames inside")...)
	found = append(found, asked.findings(warning,
		letPass+", unless it is meant: the network obeys the host's rules", "frames inside")...)
	return each(found, "no rule of the host drops frames inside networks; those of %d pass its rules", untagged)
}
