package driver

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/store"
)

// FuzzParseEndpoint: a request is refused as invalid, or gives an endpoint that has what the request named and reads the
// same when Docker repeats it.
func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e","Interface":{"Address":"10.0.0.2/8","AddressIPv6":"fd00::2/64","MacAddress":"02:42:0A:00:00:02"}}`,
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e","Options":{"com.docker.network.portmap":[]}}`,
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e","Options":{"works.weave.x":1}}`,
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e","Interface":{"MacAddress":"01:00:5e:00:00:01"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req network.CreateEndpointRequest
		if json.Unmarshal(body, &req) != nil {
			return
		}
		ep, err := parseEndpoint(&req)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
			return
		}
		if string(ep.ID) != req.EndpointID || string(ep.Network) != req.NetworkID || checkIDs(ep.Network, ep.ID) != nil {
			t.Errorf("ids of %+v", ep)
		}
		for key := range req.Options {
			if !strings.HasPrefix(key, dockerPrefix) {
				t.Errorf("accepted option %s", key)
			}
		}
		var again network.EndpointInterface
		if i := req.Interface; i != nil {
			if (ep.MAC == "") != (i.MacAddress == "") {
				t.Errorf("MAC %q of %q", ep.MAC, i.MacAddress)
			}
			again = *i
		} else if ep.MAC != "" || len(ep.Addresses) > 0 {
			t.Errorf("an address out of nothing: %+v", ep)
		}
		again.MacAddress = ep.MAC
		for n, text := range slices.DeleteFunc([]*string{&again.Address, &again.AddressIPv6}, func(s *string) bool { return *s == "" }) {
			*text = ep.Addresses[n].String()
		}
		req.Interface = &again
		if ep2, err := parseEndpoint(&req); err != nil {
			t.Errorf("repeated: %v", err)
		} else if diff := cmp.Diff(ep, ep2, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("repeated (-first +second):\n%s", diff)
		}
	})
}

// recordsOnly is a store that has these records.
type recordsOnly struct {
	store.Store
	records []store.Record
}

func (s recordsOnly) List(_ context.Context, prefix string) ([]store.Record, error) {
	return slices.DeleteFunc(slices.Clone(s.records), func(r store.Record) bool { return !strings.HasPrefix(r.Key, prefix) }), nil
}

// FuzzRecords: whatever the records hold, they are refused as damaged or planned for: each is kept or dropped, what is
// kept is complete, and what a record names or another state made is no stray.
func FuzzRecords(f *testing.F) {
	const nw = `{"id":"7d2a4352179e","bridge":"wv-7d2a4352179e","mtu":1500,"pools":[{"subnet":"10.0.0.0/8"}],"phase":"made"}`
	const ep = `{"id":"3f2a4352179e","network":"7d2a4352179e","hostEnd":"wve-3f2a4352179","mac":"02:42:0a:00:00:02","sandbox":"/s","phase":"made"}`
	f.Add([]byte(nw), []byte(ep), true)
	f.Add([]byte(nw), []byte(strings.Replace(ep, "/s", "", 1)), false)
	f.Add([]byte(strings.Replace(nw, "made", "going", 1)), []byte(ep), true)
	f.Add([]byte(`{"pools":null}`), []byte(`{"phase":1}`), false)
	f.Add([]byte(`null`), []byte(`[]`), false)
	var links []netlink.Link
	for name, alias := range map[string]string{
		"wv-7d2a4352179e": "weave:aa:network:7d2a4352179e", "wve-3f2a4352179": "weave:aa:endpoint:3f2a4352179e",
		"wve-000000000000": "weave:aa:endpoint:000000000000", "wve-111111111111": "weave:bb:endpoint:111111111111", "eth0": "",
	} {
		links = append(links, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, Alias: alias}})
	}
	f.Fuzz(func(t *testing.T, first, second []byte, alive bool) {
		s := recordsOnly{records: []store.Record{{Key: networkKeys + "1", Value: first}, {Key: endpointKeys + "1", Value: second}}}
		networks, err := store.Load[networkRecord](t.Context(), s, networkKeys)
		if err == nil {
			var endpoints map[string]endpointRecord
			endpoints, err = store.Load[endpointRecord](t.Context(), s, endpointKeys)
			if err == nil {
				checkPlan(t, networks[networkKeys+"1"], endpoints[endpointKeys+"1"], links, alive)
			}
		}
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("error %v, want ErrDamaged", err)
		}
	})
}

func checkPlan(t *testing.T, nw networkRecord, ep endpointRecord, links []netlink.Link, alive bool) {
	t.Helper()
	p := makePlan("aa", []networkRecord{nw}, []endpointRecord{ep}, links, func(string) bool { return alive })
	if len(p.networks)+len(p.dropNetworks) != 1 || len(p.endpoints)+len(p.dropEndpoints) != 1 {
		t.Errorf("a record is planned for twice or not at all: %+v", p)
	}
	if len(p.networks) == 1 && nw.Phase != made {
		t.Errorf("keeps a network that is %q", nw.Phase)
	}
	if len(p.endpoints) == 1 && (ep.Phase != made || len(p.networks) == 0 || ep.Network != p.networks[0].ID) {
		t.Errorf("keeps endpoint %+v with networks %+v", ep, p.networks)
	}
	for _, link := range p.strays {
		a := link.Attrs()
		if a.Name == nw.Bridge || a.Name == ep.HostEnd || !strings.HasPrefix(a.Alias, "weave:aa:") {
			t.Errorf("%s with alias %q is a stray beside %+v, %+v", a.Name, a.Alias, nw, ep)
		}
	}
}
