// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"bufio"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/store"
)

func lines(s string) (out []string) {
	for sc := bufio.NewScanner(strings.NewReader(s)); sc.Scan(); {
		out = append(out, sc.Text())
	}
	return out
}

// checkConsistent compares the records, what is tracked, the links and the firewall's rules with each other.
func checkConsistent(t *testing.T, d *Driver) {
	t.Helper()
	var want []string
	tables := 0
	for _, nw := range d.Networks() {
		want = append(want, nw.Bridge)
		if !nw.Tagged {
			tables = 2 // of the firewall, IPv4 and IPv6, for all networks
		}
	}
	for _, ep := range d.Endpoints() {
		want = append(want, ep.HostEnd, containerEndName(ep.ID))
		nw, _ := d.tracked.network(ep.Network)
		if mustLink(t, ep.HostEnd).Attrs().MasterIndex != mustLink(t, nw.Bridge).Attrs().Index {
			t.Errorf("host end %s is no port of %s", ep.HostEnd, nw.Bridge)
		}
	}
	slices.Sort(want)
	if got := ownLinks(t); !slices.Equal(got, want) {
		t.Errorf("links %v, want %v", got, want)
	}
	if got := firewallTables(t); len(got) != tables {
		t.Errorf("tables of the firewall %v, want %d", got, tables)
	}
	networks, err := store.Load[Network](t.Context(), d.store, networkKeys)
	if err != nil || len(networks) != len(d.Networks()) {
		t.Errorf("network records %v, %v, want %d", networks, err, len(d.Networks()))
	}
	endpoints, err := store.Load[endpointRecord](t.Context(), d.endpointStore, endpointKeys)
	if err != nil || len(endpoints) != len(d.Endpoints()) {
		t.Errorf("endpoint records %v, %v, want %d", endpoints, err, len(d.Endpoints()))
	}
}

// firewallTables are the tables of nftables that the firewall has made.
func firewallTables(t *testing.T) (out []string) {
	t.Helper()
	tables, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines(string(tables)) {
		if strings.Contains(line, "weave-") {
			out = append(out, line)
		}
	}
	return out
}
