// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSurvey: the chains at hooks are listed with what they jump to, weave's own and those of others.
func TestSurvey(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		f, _ := newFirewall(t)
		must(t, f.Set(t.Context(), []Bridge{{Name: "wvg-1", NetworkID: "n1", Gateways: []Gateway{
			{Prefix: netip.MustParsePrefix("10.32.0.1/24"), Masquerade: true},
		}}}))
		for _, cmd := range commands(backend) {
			run(t, "", cmd, "-I", "DOCKER-USER", "!", "-i", "eth7", "-j", "DROP")
			run(t, "", cmd, "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
		}
		chains, err := f.Survey(t.Context())
		must(t, err)
		at := func(name string) Chain {
			i := slices.IndexFunc(chains, func(c Chain) bool { return c.Name == name })
			if i < 0 {
				t.Fatalf("no %s in %+v", name, chains)
			}
			return chains[i]
		}
		for _, v := range families {
			c := at(backend + " " + string(v) + " filter FORWARD")
			if c.Hook != Forward || !c.Drops || c.NAT || c.Own || c.IPv4 != (v == ipv4) || c.IPv6 != (v == ipv6) {
				t.Errorf("got %+v", c)
			}
			user := slices.IndexFunc(c.Rules, func(r ChainRule) bool { return r.Target == "DOCKER-USER" })
			weaves := slices.IndexFunc(c.Rules, func(r ChainRule) bool {
				return r.Weave && r.Out == "wvg-+" && r.Answers && !r.If && r.Target == "ACCEPT"
			})
			if user < 0 || weaves < user || c.Rules[user].Jump[0].In != "eth7" || !c.Rules[user].Jump[0].NotIn {
				t.Errorf("want the user's rule, and weave's behind it: %+v", c.Rules)
			}
			nat := at(backend + " " + string(v) + " nat POSTROUTING")
			if nat.Hook != Postrouting || !nat.NAT || nat.Rules[0].Out != "eth0" || nat.Rules[0].If ||
				nat.Rules[0].Target != "MASQUERADE" {
				t.Errorf("got %+v, want the rule that translates", nat)
			}
		}
		if own := at("nft IPv4 weave-aa forward"); !own.Own {
			t.Errorf("got %+v, want it as weave's own", own)
		}
	})
}

// TestSurveyNft: rules of nft's own are read, with the states of connections.
func TestSurveyNft(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		if backend != "nft" {
			return
		}
		run(t, `table inet mine {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "lan*" tcp dport 80 accept
		jump more
	}
	chain more { oifname "wvg-1" drop; }
	chain post {
		type nat hook postrouting priority srcnat;
		masquerade
	}
}
table bridge mine {
	chain forward { type filter hook forward priority filter; policy drop; }
}
`, "nft", "-f", "-")
		f, _ := newFirewall(t)
		chains, err := f.Survey(t.Context())
		must(t, err)
		for i := range chains {
			forget(chains[i].Rules)
		}
		want := []Chain{
			{Name: "nft bridge mine forward", Hook: Forward, Bridge: true, Drops: true},
			{Name: "nft inet mine forward", Hook: Forward, IPv4: true, IPv6: true, Drops: true, Rules: []ChainRule{
				{Answers: true, Target: "ACCEPT"},
				{In: "lan+", If: true, Target: "ACCEPT"},
				{Target: "more", Jump: []ChainRule{{Out: "wvg-1", Target: "DROP"}}},
			}},
			{Name: "nft inet mine post", Hook: Postrouting, NAT: true, IPv4: true, IPv6: true, Rules: []ChainRule{
				{Target: "MASQUERADE"},
			}},
		}
		if diff := cmp.Diff(want, chains); diff != "" {
			t.Error("(-want +got)\n", diff)
		}
	})
}

// forget takes from rules what people read.
func forget(rules []ChainRule) {
	for i := range rules {
		rules[i].Rule = Rule{}
		forget(rules[i].Jump)
	}
}

func TestParseRule(t *testing.T) {
	for text, want := range map[string]ChainRule{
		`-j DROP`:                      {Target: "DROP"},
		`! -i eth0 -o wvg-+ -j RETURN`: {In: "eth0", NotIn: true, Out: "wvg-+", Target: "RETURN"},
		`-m comment --comment "of mine -j x" -j REJECT --reject-with tcp-reset`: {Target: "REJECT"},
		`-s 10.0.0.0/8 -j DROP`:                                {If: true, Target: "DROP"},
		`-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`: {Answers: true, Target: "ACCEPT"},
		`-m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT`:     {Target: "ACCEPT"},
		`-m conntrack ! --ctstate DNAT -j ACCEPT`:              {If: true, Target: "ACCEPT"},
		`-m conntrack --ctstate INVALID -j DROP`:               {If: true, Target: "DROP"},
		`-m conntrack --ctstate ? -j DROP`:                     {If: true, Target: "DROP"},
		`-i a -m comment --comment weave:aa:n1 -j ACCEPT`:      {In: "a", Target: "ACCEPT", Weave: true},
		`-i a -m physdev --physdev-is-bridged -j ACCEPT`:       {In: "a", If: true, Target: "ACCEPT"},
		`-o wvg-+ ? -g mine`:                                   {Out: "wvg-+", If: true, Target: "mine"},
		`-i`:                                                   {},
	} {
		got := parseRule(Rule{}, splitRule(text))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", text, diff)
		}
	}
}

func TestSurveyLegacy(t *testing.T) {
	const saved = "*filter\n:FORWARD DROP [3:180]\n:mine - [0:0]\n" +
		"[12:720] -A FORWARD -i eth1 -m comment --comment \"of mine\" -j DROP\n" +
		"[5:300] -A FORWARD -j mine\n[0:0] -A mine -j REJECT\nnonsense\nCOMMIT\n"
	chains := survey(parseSaved(ipv4, saved))
	for i := range chains {
		forget(chains[i].Rules)
	}
	want := []Chain{{
		Name: "legacy IPv4 filter FORWARD", Hook: Forward, IPv4: true, Drops: true, Rules: []ChainRule{
			{In: "eth1", Target: "DROP"},
			{Target: "mine", Jump: []ChainRule{{Target: "REJECT"}}},
		},
	}}
	if diff := cmp.Diff(want, chains); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}
