// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/internal/mac"
)

var comparePrefixes = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

// TestRecordsOfEarlierVersions: the records of version 0.1 are read, and written as it wrote them.
func TestRecordsOfEarlierVersions(t *testing.T) {
	const network = `{"id":"7d2a4352179e","bridge":"br-lan","foreign":true,"mtu":1400,` +
		`"internal":true,"multicast":true,"announced":true,` +
		`"pools":[{"subnet":"10.0.0.0/8","gateway":"10.0.0.1","reserved":["10.0.0.9"],"space":"weavelocal"}],` +
		`"created":"2026-01-02T03:04:05Z","phase":"made"}`
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := Network{
		Definition: Definition{ID: "7d2a4352179e", MTU: 1400, Internal: true, Multicast: true, Pools: []Pool{{
			Subnet: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("10.0.0.1"),
			Reserved: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, Space: "weavelocal",
		}}},
		Local: Local{Bridge: "br-lan", Foreign: true, Announced: true, Created: created, Phase: Made},
	}
	checkRecord(t, network, want)
	const endpoint = `{"id":"3f2a4352179e","network":"7d2a4352179e",` +
		`"hostEnd":"wve-3f2a4352179","mac":"02:42:0a:00:00:02",` +
		`"addresses":["10.0.0.2/8"],"sandbox":"/run/docker/netns/1","created":"2026-01-02T03:04:05Z","phase":"going"}`
	checkRecord(t, endpoint, endpointRecord{Phase: Going, Endpoint: Endpoint{
		ID: "3f2a4352179e", Network: "7d2a4352179e", HostEnd: "wve-3f2a4352179",
		MAC: mac.MustParse("02:42:0a:00:00:02"), Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/8")},
		Sandbox: "/run/docker/netns/1", Created: created,
	}})
}

// checkRecord checks that record is read as want, and that want is written with the same members.
func checkRecord[T any](t *testing.T, record string, want T) {
	t.Helper()
	var got T
	if err := json.Unmarshal([]byte(record), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, comparePrefixes); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	written, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if err := errors.Join(json.Unmarshal([]byte(record), &before), json.Unmarshal(written, &after)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("written (-before +after):\n%s", diff)
	}
}
