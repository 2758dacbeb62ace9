// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"net/netip"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
)

// own is a network with a gateway of its own; obeying is one that obeys the rules of the host.
var (
	own = driver.Network{
		Definition: driver.Definition{ID: "n1", Gateway: driver.GatewayNative, Pools: []driver.Pool{
			{Subnet: netip.MustParsePrefix("10.32.0.0/24"), Gateway: netip.MustParseAddr("10.32.0.1")},
		}},
		Local: driver.Local{Bridge: "wvg-1", Tagged: true},
	}
	obeying = driver.Network{
		Definition: driver.Definition{ID: "n2", Gateway: driver.GatewayDocker, Firewall: driver.FirewallHost,
			Pools: []driver.Pool{{Subnet: netip.MustParsePrefix("10.32.1.0/24")}}},
		Local: driver.Local{Bridge: "wv-2"},
	}
	defaultRoute = route{netip.MustParsePrefix("0.0.0.0/0"), "eth0"}
)

// rule is one of others, with a target.
func rule(target string) firewall.ChainRule {
	return firewall.ChainRule{
		Rule: firewall.Rule{Table: "nft IPv4 filter FORWARD", Text: "-j " + target}, Target: target,
	}
}

// with changes a rule.
func with(r firewall.ChainRule, change func(*firewall.ChainRule)) firewall.ChainRule {
	change(&r)
	return r
}

func conditional(r *firewall.ChainRule) { r.If = true }

// weaves are the rules of weave's that let packets leave a network, and answers enter it.
var weaves = []firewall.ChainRule{
	{Out: "wvg-+", Answers: true, Target: "ACCEPT", Weave: true},
	{In: "wvg-+", If: true, Target: "ACCEPT", Weave: true},
}

// forward is the chain FORWARD of IPv4.
func forward(drops bool, rules ...firewall.ChainRule) firewall.Chain {
	return firewall.Chain{
		Name: "nft IPv4 filter FORWARD", Hook: firewall.Forward, IPv4: true, Drops: drops, Rules: rules,
	}
}

// ownFacts are those of a host with the network own and these chains.
func ownFacts(chains ...firewall.Chain) facts {
	return facts{
		networks: []driver.Network{own}, rules: chains, routes: []route{defaultRoute},
		sysctls: map[string]string{"net/ipv4/ip_forward": "1"},
	}
}

func TestWayOut(t *testing.T) {
	drop, accept := rule("DROP"), rule("ACCEPT")
	toUser := func(rules ...firewall.ChainRule) firewall.ChainRule {
		return with(rule("DOCKER-USER"), func(r *firewall.ChainRule) { r.Jump = rules })
	}
	off := ownFacts()
	off.sysctls["net/ipv4/ip_forward"] = "0"
	check(t, ofWayOut, []judged{
		{"no rules", ownFacts(), api.CheckOK, "1 networks"},
		{"Docker's policy, and weave's rules", ownFacts(forward(true, weaves...)), api.CheckOK, ""},
		{"a policy without them", ownFacts(forward(true)), api.CheckFailed,
			"of wvg-1: dropped by nft IPv4 filter FORWARD: its policy"},
		{"a rule before them", ownFacts(forward(true, append([]firewall.ChainRule{drop}, weaves...)...)),
			api.CheckFailed, "FORWARD: -j DROP"},
		{"a rule behind them", ownFacts(forward(true, append(weaves[:2:2], drop)...)), api.CheckOK, ""},
		{"a rule that rejects", ownFacts(forward(false, rule("REJECT"))), api.CheckFailed, "-j REJECT"},
		{"a rule with conditions", ownFacts(forward(false, with(drop, conditional))), api.CheckOK, ""},
		{"a rule about another link", ownFacts(forward(false,
			with(drop, func(r *firewall.ChainRule) { r.In = "eth7" }))), api.CheckOK, ""},
		{"a rule about all but that link", ownFacts(forward(false,
			with(drop, func(r *firewall.ChainRule) { r.In, r.NotIn = "eth7", true }))), api.CheckFailed, "-j DROP"},
		{"a rule about the bridges", ownFacts(forward(false,
			with(drop, func(r *firewall.ChainRule) { r.In = "wvg-+" }))), api.CheckFailed, "-j DROP"},
		{"a rule about answers", ownFacts(forward(false,
			with(drop, func(r *firewall.ChainRule) { r.In, r.Out = "eth0", "wvg-1" }))), api.CheckFailed, "-j DROP"},
		{"a rule of the user's", ownFacts(forward(true, append([]firewall.ChainRule{toUser(drop)}, weaves...)...)),
			api.CheckFailed, "-j DROP"},
		{"the user's chain returns first", ownFacts(forward(true,
			append([]firewall.ChainRule{toUser(rule("RETURN"), drop)}, weaves...)...)), api.CheckOK, ""},
		{"a jump with conditions", ownFacts(forward(false, with(toUser(drop), conditional))), api.CheckOK, ""},
		{"something may accept before", ownFacts(forward(true, with(accept, conditional))), api.CheckWarning,
			"unless a rule before accepts it"},
		{"only answers are accepted", ownFacts(forward(true,
			with(accept, func(r *firewall.ChainRule) { r.Answers = true }))), api.CheckFailed, "its policy"},
		{"another family", ownFacts(firewall.Chain{Hook: firewall.Forward, IPv6: true, Drops: true}), api.CheckOK, ""},
		{"weave's own table", ownFacts(firewall.Chain{Hook: firewall.Forward, IPv4: true, Drops: true, Own: true}),
			api.CheckOK, ""},
		{"firewalld", ownFacts(firewall.Chain{Name: "nft inet firewalld filter_FORWARD", Hook: firewall.Forward,
			IPv4: true, Rules: []firewall.ChainRule{rule("REJECT")}}), api.CheckOK, ""},
		{"the host routes nothing", off, api.CheckFailed, "net/ipv4/ip_forward is 0"},
		{"no network leaves", facts{networks: []driver.Network{obeying}, rules: []firewall.Chain{forward(true)}},
			api.CheckOK, "0 networks"},
	})
}

func TestInside(t *testing.T) {
	bridges := firewall.Chain{
		Name: "nft bridge mine forward", Hook: firewall.Forward, Bridge: true,
		Rules: []firewall.ChainRule{rule("DROP")},
	}
	about := func(nw driver.Network, filtered string, c firewall.Chain) facts {
		return facts{networks: []driver.Network{nw}, rules: []firewall.Chain{c}, sysctls: map[string]string{
			"net/bridge/bridge-nf-call-iptables": filtered,
		}}
	}
	untagged := own
	untagged.Tagged = false
	inside := firewall.ChainRule{In: "wv-+", Out: "wv-+", If: true, Target: "ACCEPT", Weave: true}
	check(t, ofInside, []judged{
		{"tagged", about(own, "1", forward(true)), api.CheckOK, "those of 0 pass"},
		{"it obeys", about(obeying, "1", forward(true)), api.CheckWarning, "frames inside of wv-2: dropped by"},
		{"it obeys, and is let by", about(obeying, "1", forward(true, inside)), api.CheckOK, "those of 1 pass"},
		{"no br_netfilter", about(obeying, "0", forward(true)), api.CheckOK, ""},
		{"it can't be tagged", about(untagged, "1", forward(true)), api.CheckFailed, "frames inside of wvg-1"},
		{"a table of bridges", about(own, "0", bridges), api.CheckFailed, "-j DROP"},
	})
}

func TestTranslation(t *testing.T) {
	chain := func(h firewall.Hook, r firewall.ChainRule) firewall.Chain {
		return firewall.Chain{Name: "nft IPv4 nat", Hook: h, NAT: true, IPv4: true, Rules: []firewall.ChainRule{r}}
	}
	kept := ownFacts(chain(firewall.Postrouting, rule("MASQUERADE")))
	kept.networks[0].NAT = driver.NATNone
	byLink := ownFacts(chain(firewall.Postrouting,
		with(rule("MASQUERADE"), func(r *firewall.ChainRule) { r.Out = "eth0" })))
	byLink.networks[0].NAT = driver.NATNone
	other := ownFacts(chain(firewall.Postrouting, with(rule("MASQUERADE"), conditional)))
	other.networks[0].NAT = driver.NATNone
	check(t, ofTranslation, []judged{
		{"it is translated anyway", ownFacts(chain(firewall.Postrouting, rule("MASQUERADE"))), api.CheckOK, ""},
		{"it is to keep its address", kept, api.CheckFailed, "what leaves wvg-1 is to keep its address"},
		{"likewise, by its link", byLink, api.CheckFailed, "MASQUERADE"},
		{"of some only", other, api.CheckOK, ""},
		{"a proxy", ownFacts(chain(firewall.Prerouting, rule("REDIRECT"))), api.CheckWarning, "another destination"},
		{"a proxy for some", ownFacts(chain(firewall.Prerouting,
			with(rule("REDIRECT"), conditional))), api.CheckOK, ""},
	})
}

func TestReversePath(t *testing.T) {
	about := func(nw driver.Network, programs bool, sysctls map[string]string, routes ...route) facts {
		f := facts{networks: []driver.Network{nw}, sysctls: sysctls, routes: routes}
		if programs {
			f.kernel.features = []feature{{name: tcPrograms}}
		}
		return f
	}
	all, bridge := "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/wv-2/rp_filter"
	second := route{netip.MustParsePrefix("0.0.0.0/0"), "eth1"}
	loose := map[string]string{all: "2", bridge: "1"}
	strict := map[string]string{all: "1", "net/ipv4/conf/eth0/rp_filter": "0", "net/ipv4/conf/eth1/rp_filter": "2"}
	check(t, ofReversePath, []judged{
		{"strict at the bridge", about(obeying, false, map[string]string{all: "0", bridge: "1"}), api.CheckOK, "is 0"},
		{"loose everywhere", about(obeying, false, loose), api.CheckWarning, "counts as 2"},
		{"loose, but programs drop", about(obeying, true, loose), api.CheckOK, ""},
		{"loose, at a gateway", about(own, false, loose), api.CheckOK, ""},
		{"one way out", about(own, true, strict, defaultRoute), api.CheckOK, ""},
		{"two ways out", about(own, true, strict, defaultRoute, second), api.CheckWarning, "rp_filter is 1 at eth0"},
	})
}
