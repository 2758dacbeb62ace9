// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
)

// packet is one whose way through the host's chains is looked at.
type packet struct {
	in, out string // links; empty: not known
	answer  bool   // it belongs to a connection that is known
}

// verdict is what becomes of a packet.
type verdict int

const (
	goesOn verdict = iota
	passes
	dropped
)

// walk is the way of a packet through one chain.
type walk struct {
	packet
	by     string // what drops it, for people
	unsure bool   // a rule before that may have let it pass, under conditions that are not looked at
}

// through takes the packet through rules. Conditions of weave's own rules hold for packets of its networks; a rule of
// others with conditions besides links decides nothing here.
func (w *walk) through(rules []firewall.ChainRule) verdict {
	for _, r := range rules {
		switch {
		case !w.isMeant(r):
			continue
		case r.If && !r.Weave:
			w.unsure = w.unsure || mayAccept(r)
			continue
		case r.Target == "ACCEPT":
			return passes
		case r.Target == "DROP" || r.Target == "REJECT":
			w.by = r.Table + ": " + r.Text
			return dropped
		case r.Target == "RETURN":
			return goesOn
		}
		if v := w.through(r.Jump); v != goesOn {
			return v
		}
	}
	return goesOn
}

// isMeant reports whether a rule is about packets of these links, and of such a connection.
func (w *walk) isMeant(r firewall.ChainRule) bool {
	return (r.In == "" || matches(r.In, w.in) != r.NotIn) && (r.Out == "" || matches(r.Out, w.out) != r.NotOut) &&
		(!r.Answers || w.answer)
}

// matches reports whether a link has a name as iptables writes it; not where that is not told.
func matches(pattern, link string) bool {
	if begin, ok := strings.CutSuffix(pattern, "+"); ok {
		return strings.HasPrefix(link, begin)
	}
	return pattern == link
}

// mayAccept reports whether a rule, or one of those that it jumps to, lets packets pass.
func mayAccept(r firewall.ChainRule) bool {
	return r.Target == "ACCEPT" || r.Target == "?" || slices.ContainsFunc(r.Jump, mayAccept)
}

// fate returns what drops a packet in a chain, for people; empty: nothing does.
func fate(c firewall.Chain, p packet) (by string, unsure bool) {
	w := walk{packet: p}
	switch w.through(c.Rules) {
	case dropped:
		return w.by, w.unsure
	case goesOn:
		if c.Drops {
			return c.Name + ": its policy", w.unsure
		}
	}
	return "", false
}

// filters are the chains that filter packets of a family at hooks, but for weave's own, which drop what they should,
// and firewalld's, which let the zone pass that weave's bridges are in.
func filters(all []firewall.Chain, ipv6 bool, hooks ...firewall.Hook) (out []firewall.Chain) {
	for _, c := range all {
		if !c.NAT && !c.Own && !c.Bridge && (ipv6 && c.IPv6 || !ipv6 && c.IPv4) && slices.Contains(hooks, c.Hook) &&
			!strings.Contains(c.Name, " firewalld ") {
			out = append(out, c)
		}
	}
	return out
}

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
