// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// outcomesOf makes outcomes of one letter for each shape: answered (a), lost (-), spoiled on the way out (o) or in (i).
func outcomesOf(t *testing.T, letters string) (out outcomes) {
	t.Helper()
	if len(letters) != len(out) {
		t.Fatalf("%q: want %d letters", letters, len(out))
	}
	for i, c := range letters {
		out[i] = outcome{answered: c != '-', spoiledOut: c == 'o', spoiledIn: c == 'i', took: time.Duration(9 - i)}
	}
	return out
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		what string
		// without offload; UDP, TCP small out; the same both ways; large out; large both ways
		outcomes string
		heard    bool
		want     Fault
	}{
		{"all is well", "aaaaaaaaa", false, None},
		{"nothing comes back", "---------", false, Blocked},
		{"nothing comes back, but its requests come", "---------", true, BlockedOut},
		{"large ones don't come back", "aaaaa----", true, MTUOut},
		{"large ones come there, but not here", "aaaaaaa--", true, MTUIn},
		{"UDP alone is enough for that", "aa-a-a---", true, MTUIn},
		{"arrive there with wrong checksums", "aoooooooo", true, ChecksumOut},
		{"only TCP does", "aaoaoaoao", true, ChecksumOut},
		{"are lost there for their checksums", "a--------", false, ChecksumOut},
		{"arrive here with wrong checksums", "aaaiiaaii", true, ChecksumIn},
		{"are lost here for their checksums", "aaa--aa--", true, ChecksumIn},
		{"both directions are wrong", "aoooiooii", true, ChecksumOut},
		{"wrong checksums and no large ones", "aoooo----", true, ChecksumOut},
		{"TCP is lost", "aa-a-a-a-", true, Loss},
		{"large TCP is lost", "aaaaaa-a-", true, Loss},
		{"one is lost", "aaaa-aaaa", true, Loss},
		{"what needs no offload is lost alone", "-aaaaaaaa", true, Loss},
		{"large answers come for small ones do", "aaaaa--aa", true, Loss},
	} {
		if got := outcomesOf(t, tt.outcomes).judge(tt.heard); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for outcomes, want := range map[string]time.Duration{good: 5, "aa-------": 8, "-----aaaa": 0, nothing: 0} {
		if got := outcomesOf(t, outcomes).roundTrip(); got != want {
			t.Errorf("%s: %s, want that of the fastest small one, %s", outcomes, got, want)
		}
	}
}

// TestDescribe: each fault names the host or the link that it is about, and says what to do.
func TestDescribe(t *testing.T) {
	x := facts{
		host:  Host{Name: "host2", VTEP: netip.MustParseAddr("192.0.2.2"), Port: 6785, MTU: 1450},
		twin:  "host3",
		local: netip.MustParseAddr("192.0.2.1"), port: 6784, overhead: 50, device: "eth0",
		outcomes: outcomesOf(t, "aa-a-a-a-"),
	}
	for fault, wants := range map[Fault][]string{
		None:        nil,
		Family:      {"192.0.2.2", "192.0.2.1", "--cluster-address"},
		Port:        {"UDP port 6785", "this host at 6784", "--cluster-port"},
		Address:     {"192.0.2.2", "host3", "--cluster-address"},
		Blocked:     {"no VXLAN packets come", "UDP port 6784 is blocked", "firewalls of both hosts"},
		BlockedOut:  {"UDP port 6784 is blocked on the way to host2", "firewall there"},
		MTUOut:      {"don't arrive there", "MTU 1450", "packets of 1500 bytes", "works.weave.mtu"},
		MTUIn:       {"don't arrive here", "MTU 1450", "packets of 1500 bytes", "works.weave.mtu"},
		ChecksumOut: {"arrive there with wrong checksums", "ethtool -K eth0 tx off"},
		ChecksumIn:  {"arrive here with wrong checksums", "host2's link with address 192.0.2.2", "-K DEVICE tx off"},
		Loss:        {"TCP, TCP and back, large TCP, large TCP and back: ", "ethtool -K eth0 tx off"},
	} {
		got := fault.describe(x)
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q in it", fault, got, want)
			}
		}
		if (got == "") != (fault == None) {
			t.Errorf("%q: %q", fault, got)
		}
	}
}
