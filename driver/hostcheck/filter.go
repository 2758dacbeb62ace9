// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"slices"
	"strings"

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
