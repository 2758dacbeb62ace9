// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/store"
)

// recordsOnly is a store that has these records.
type recordsOnly struct {
	store.Store
	records []store.Record
}

func (s recordsOnly) List(_ context.Context, prefix string) ([]store.Record, error) {
	other := func(r store.Record) bool { return !strings.HasPrefix(r.Key, prefix) }
	return slices.DeleteFunc(slices.Clone(s.records), other), nil
}

// FuzzRecords: any records are either reported as damaged, or each of them is kept or removed by the plan. What is
// kept is complete, and no link that a record names or that another state made is removed as unrecorded.
func FuzzRecords(f *testing.F) {
	const nw = `{"id":"7d2a4352179e","bridge":"wv-7d2a4352179e","mtu":1500,` +
		`"pools":[{"subnet":"10.0.0.0/8"}],"phase":"made"}`
	const ep = `{"id":"3f2a4352179e","network":"7d2a4352179e","hostEnd":"wve-3f2a4352179",` +
		`"mac":"02:42:0a:00:00:02","sandbox":"/s","phase":"made"}`
	f.Add([]byte(nw), []byte(ep), true)
	f.Add([]byte(nw), []byte(strings.Replace(ep, "/s", "", 1)), false)
	f.Add([]byte(strings.Replace(nw, "made", "going", 1)), []byte(ep), true)
	f.Add([]byte(`{"pools":null}`), []byte(`{"phase":1}`), false)
	f.Add([]byte(`null`), []byte(`[]`), false)
	links := map[string]*hostLink{}
	for name, alias := range map[string]string{
		"wv-7d2a4352179e":  "weave:aa:network:7d2a4352179e",
		"wve-3f2a4352179":  "weave:aa:endpoint:3f2a4352179e",
		"wve-000000000000": "weave:aa:endpoint:000000000000",
		"wve-111111111111": "weave:bb:endpoint:111111111111",
		"eth0":             "",
	} {
		links[name] = &hostLink{Link: &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, Alias: alias}}}
	}
	f.Fuzz(func(t *testing.T, first, second []byte, alive bool) {
		s := recordsOnly{records: []store.Record{
			{Key: networkKeys + "1", Value: first}, {Key: endpointKeys + "1", Value: second},
		}}
		networks, endpoints, err := (&Driver{store: s, endpointStore: s}).loadRecords(t.Context())
		if err == nil {
			checkPlan(t, networks[0], endpoints[0], links, alive)
		} else if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("error %v, want ErrDamaged", err)
		}
	})
}

func checkPlan(t *testing.T, nw Network, ep endpointRecord, links map[string]*hostLink, alive bool) {
	t.Helper()
	w := world{
		stateID: "aa", networks: []Network{nw}, endpoints: []endpointRecord{ep}, links: links,
		made: func(string) int { return 0 }, alive: func(string) bool { return alive },
	}
	p := w.plan()
	count := func(a action) (n int) {
		for _, s := range p.steps {
			if s.action == a {
				n++
			}
		}
		return n
	}
	if len(p.networks)+count(removeNetwork) != 1 || len(p.endpoints)+count(removeEndpoint) != 1 {
		t.Errorf("a record is planned for twice or not at all: %+v", p)
	}
	if len(p.networks) == 1 && nw.Phase != Made {
		t.Errorf("keeps a network that is %q", nw.Phase)
	}
	if len(p.endpoints) == 1 && (ep.Phase != Made || len(p.networks) == 0 || ep.Network != p.networks[0].ID) {
		t.Errorf("keeps endpoint %+v with networks %+v", ep, p.networks)
	}
	for _, s := range p.steps {
		if s.action != removeLink {
			continue
		}
		a := s.link.Attrs()
		if a.Name == nw.Bridge || a.Name == ep.HostEnd || !strings.HasPrefix(a.Alias, "weave:aa:") {
			t.Errorf("removes %s with alias %q beside %+v, %+v", a.Name, a.Alias, nw, ep)
		}
	}
}
