// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/mac"
)

const (
	netID = NetworkID("7d2a4352179e00f14c5fbe322bff4b586f4cef09e5a4bda73851b8725299a4bc")
	epID  = EndpointID("3345ac4971c9e239a8690fd27572bb369374017ee2c95f6faa11225d4a09c855")
)

func TestNames(t *testing.T) {
	swarm := NetworkID("x7k2m9q4w1e8r5t3y6u0i2o4p")
	for got, want := range map[string]string{
		bridgeName(netID):             "wv-7d2a4352179e",
		bridgeName(swarm):             "wv-x7k2m9q4w1e8",
		hostEndName(epID):             "wve-3345ac4971c",
		containerEndName(epID):        "wvc-3345ac4971c",
		bridgeName("123456789012"):    "wv-123456789012",
		hostEndName("12345678901234"): "wve-12345678901",
	} {
		if got != want || len(got) > maxName {
			t.Errorf("name %q, want %q", got, want)
		}
	}
	for _, id := range []string{"", "short", "7d2a4352179e/../etc", "7d2a4352179e ", strings.Repeat("a", 65)} {
		if err := NetworkID(id).Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("id %q: error %v, want ErrInvalid", id, err)
		}
	}
}

func TestAlias(t *testing.T) {
	for text, want := range map[string]alias{
		"weave:0011:network:abc":    networkAlias("0011", "abc"),
		"weave:0011:endpoint:abcde": endpointAlias("0011", "abcde"),
	} {
		got, ok := parseAlias(text)
		if !ok || got != want || got.String() != text {
			t.Errorf("%q is parsed as %+v, %t, want %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "weave", "weave:0011", "weave:0011:network", "docker:0011:network:abc", "uplink",
	} {
		if a, ok := parseAlias(text); ok {
			t.Errorf("%q is parsed as %+v, want no alias of weave's", text, a)
		}
	}
	a := networkAlias("a", "1")
	if !a.sameSubject(networkAlias("b", "1")) || a.sameSubject(endpointAlias("a", "1")) {
		t.Error("an alias is for the same subject when kind and id are the same, whatever the state")
	}
}

// TestMACIsRandomAndUnicast checks the two bits that make a MAC locally administered and unicast.
func TestMACIsRandomAndUnicast(t *testing.T) {
	seen := map[mac.Address]bool{}
	for range 1000 {
		a := newMAC(nil)
		if a[0]&3 != 2 {
			t.Fatalf("MAC %s, want it locally administered and unicast", a)
		}
		if seen[a] {
			t.Fatalf("MAC %s twice in a thousand", a)
		}
		seen[a] = true
	}
}
