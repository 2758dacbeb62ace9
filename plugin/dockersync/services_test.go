// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
)

// TestDeadServices: a service with a virtual address on a network of weave's is told, once in the log, for as long as
// it has that.
func TestDeadServices(t *testing.T) {
	d := newFakeDocker(t)
	d.set("/networks", `[{"Id":"n1","Driver":"weave"},{"Id":"n2","Driver":"weave"}]`)
	d.set("/networks/n1", `{"Id":"n1","Name":"app","Driver":"weave","Scope":"swarm"}`)
	d.set("/networks/n2", `{"Id":"n2","Name":"own","Driver":"weave","Scope":"local"}`)
	d.start()
	w, hook := newWatcher(d)
	dead := []string{"service web: its virtual address on network app, 10.93.0.2/24, leads nowhere: " +
		"docker service update --endpoint-mode dnsrr web"}
	const web = `{"Spec":{"Name":"web"},"Endpoint":{"VirtualIPs":[{"NetworkID":"n1","Addr":"10.93.0.2/24"}]}}`
	for _, tt := range []struct {
		services string
		want     []string
	}{
		{"", nil}, // a worker is not asked
		{`[` + web + `]`, dead},
		{`[{"Spec":{"Name":"db"},"Endpoint":{"VirtualIPs":[{"NetworkID":"n9","Addr":"10.0.0.2/24"}]}},` + web + `]`,
			dead},
		{`[{"Spec":{"Name":"web"},"Endpoint":{"VirtualIPs":[{"NetworkID":"n1"}]}}]`, nil},
		{`[{"Spec":{"Name":"web"},"Endpoint":{}}]`, nil},
	} {
		if tt.services != "" {
			d.set("/info", `{"Swarm":{"ControlAvailable":true}}`)
			d.set("/services", tt.services)
		}
		if _, err := w.Known(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, w.Problems()); diff != "" {
			t.Errorf("services %s (-want +got):\n%s", tt.services, diff)
		}
	}
	if n := d.count("/services"); n != 4 {
		t.Errorf("services were asked for %d times, want only where there are any", n)
	}
	warnings := 0
	for _, e := range hook.AllEntries() {
		if e.Level == logrus.WarnLevel {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("%d warnings in the log, want 1", warnings)
	}
}
