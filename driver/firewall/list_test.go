// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// TestList: the rules about a bridge are listed, weave's and the user's, in each back end, with what they have counted
// where the back end tells; those about other links are not.
func TestList(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		f, _ := newFirewall(t)
		w := newWire(t, "wv-1")
		start(t, f)
		must(t, f.Set(t.Context(), own(1)))
		for _, cmd := range commands(backend) {
			run(t, "", cmd, "-I", "FORWARD", "-i", "wv-1", "-m", "comment", "--comment", "of mine", "-j", "ACCEPT")
			run(t, "", cmd, "-I", "FORWARD", "-i", "eth7", "-j", "ACCEPT")
		}
		w.checkTraffic(t, "before the listing", true)
		rules, err := f.List(t.Context(), "wv-1")
		must(t, err)
		var all []string
		counted := false
		for _, r := range rules {
			all = append(all, r.Table+": "+r.Text)
			counted = counted || r.Counted && r.Packets > 0 && r.Bytes > 0
		}
		text := strings.Join(all, "\n")
		for _, want := range []string{
			backend + " IPv4 filter FORWARD: -i wv-+ -o wv-+",
			backend + ` IPv4 filter FORWARD: -i wv-1 -m comment --comment "of mine" -j ACCEPT`,
			backend + " IPv6 filter FORWARD: -i wv-+ -o wv-+",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("got\n%s\nwant %q", text, want)
			}
		}
		if strings.Contains(text, "eth7") {
			t.Errorf("a rule about another link:\n%s", text)
		}
		if backend == "nft" && !counted {
			t.Errorf("no rule has counted the traffic: %+v", rules)
		}
		if rules, err := f.List(t.Context(), "eth9"); err != nil || len(rules) > 0 {
			t.Errorf("about another link: %+v, error %v", rules, err)
		}
	})
}

// TestListOwn: the rules of the table of weave's own are listed, too, with what they have counted.
func TestListOwn(t *testing.T) {
	eachBackend(t, func(t *testing.T, _ string) {
		f, _ := newFirewall(t)
		gateway := Gateway{netip.MustParsePrefix("10.32.0.1/22"), true}
		must(t, f.Set(t.Context(), []Bridge{{Name: "wvg-1", NetworkID: "n1", Gateways: []Gateway{gateway}}}))
		rules, err := f.List(t.Context(), "wvg-1")
		must(t, err)
		for _, r := range rules {
			if strings.Contains(r.Table, ownTablePrefix) && strings.HasSuffix(r.Text, "-j DROP") && r.Counted {
				return
			}
		}
		t.Errorf("got %+v, want a rule of the table of weave's own that drops", rules)
	})
}

// TestListHoldsUpNobody: whoever only looks does not keep rules from being set, and waits for no one who sets them.
func TestListHoldsUpNobody(t *testing.T) {
	eachBackend(t, func(t *testing.T, _ string) {
		f, _ := newFirewall(t)
		must(t, f.listing.Acquire(t.Context(), 1))
		must(t, f.Set(t.Context(), own(1)))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.List(ended, "wv-1"); !errors.Is(err, context.Canceled) {
			t.Errorf("several look at once: %v", err)
		}
		f.listing.Release(1)
		must(t, f.working.Acquire(t.Context(), 1))
		defer f.working.Release(1)
		if rules, err := f.List(t.Context(), "wv-1"); err != nil || len(rules) == 0 {
			t.Errorf("while rules are set: %+v, %v", rules, err)
		}
	})
}
