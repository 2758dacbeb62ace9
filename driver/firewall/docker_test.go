// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestLookMakesNoLegacyTable(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1))) // without Docker's chains, the system's back end is used: nft here
	must(t, f.Set(t.Context(), nil))
	addDockerChains(t, nft)
	must(t, f.Set(t.Context(), networks(1)))
	if legacyTable(false) || legacyTable(true) {
		t.Error("the kernel has legacy tables now")
	}
	assertRules(t, nft, "wv-1")
}

func TestDockerInBothBackends(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	addDockerChains(t, nft)
	addDockerChains(t, legacy)
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1)))
	assertRules(t, nft, "wv-1")
	assertRules(t, legacy, "wv-1")
}

func TestDockerIsRecognisedWithItsJumpsFlushed(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	addDockerChains(t, legacy)
	run(t, "", "iptables-legacy", "-F")
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1)))
	assertRules(t, legacy, "wv-1")
	assertRules(t, nft)
}

// TestDockerIPv4Only: Docker 20.10 has no chains for IPv6 unless it is configured to.
func TestDockerIPv4Only(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	run(t, "", "iptables-legacy", "-N", "DOCKER-USER")
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1)))
	assertRules(t, legacy, "wv-1")
	assertRules(t, nft)
}
