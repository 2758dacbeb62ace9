// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
)

func TestDNS(t *testing.T) {
	d := newFakeDocker(t)
	d.set("/containers/c1/json", `{"HostConfig":{"Dns":["192.0.2.53"],"DnsSearch":["example.com"],"DnsOptions":null}}`)
	d.set("/containers/c2/json", "oops")
	d.start()
	w, _ := newWatcher(d)
	got, err := w.DNS(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	want := &api.DNS{
		Resolver: netip.MustParseAddr("127.0.0.11"), Servers: []string{"192.0.2.53"}, Search: []string{"example.com"},
		Options: []string{},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
	if _, err := w.DNS(t.Context(), "c2"); err == nil {
		t.Error("an answer that is no JSON was taken")
	}
	if _, err := w.DNS(t.Context(), "c3"); !errors.Is(err, errGone) {
		t.Errorf("a container that does not exist: %v, want errGone", err)
	}
}
