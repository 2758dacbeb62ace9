// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/nftables/expr"
)

// TestCommentTellsRules: a rule that another version of weave wrote otherwise for the same subject is not taken for it.
func TestCommentTellsRules(t *testing.T) {
	drop := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	first := commentOf(ipv4, "wvg-0", drop)
	for _, other := range []string{commentOf(ipv4, "wvg-0", accept), commentOf(ipv4, "wvg-1", drop)} {
		if first == other {
			t.Errorf("two rules with one comment: %q", other)
		}
	}
}

// TestSubjectIsShort: the kernel keeps 255 bytes with a rule, however many subnets a network has, and other subnets are
// another subject.
func TestSubjectIsShort(t *testing.T) {
	s := subject{links: "wvg-0123456789a"}
	seen := map[string]bool{}
	for i := range 40 {
		s.sources = append(s.sources, netip.MustParsePrefix(fmt.Sprintf("fd00:1234:5678:%x::/64", i)))
		text := s.String()
		if len(text) > 100 || seen[text] {
			t.Errorf("%d subnets: %q is too long or not the only one", i+1, text)
		}
		seen[text] = true
	}
}
