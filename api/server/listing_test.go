// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
)

func TestFilters(t *testing.T) {
	const web1, web2, created, onDB = "eeee1", "eeee2", "eeee3", "eeee4"
	tests := []struct {
		name, query string
		want        []string // the first five characters of the endpoints' ids
	}{
		{"none", "", []string{created, web1, web2, onDB}},
		{"network by name", "network=db", []string{onDB}},
		{"network by id", "network=" + id("aaaa2"), []string{onDB}},
		{"network by the beginning of its id", "network=aaaa2", []string{onDB}},
		{"either network", "network=db&network=app", []string{created, web1, web2, onDB}},
		{"the same network twice", "network=db&network=aaaa2", []string{onDB}},
		{"container by name", "container=web", []string{web1, onDB}},
		{"container by its name in Docker's API", "container=/web", []string{web1, onDB}},
		{"container by id", "container=" + id("cccc2"), []string{web2}},
		{"container by the beginning of its id", "container=cccc2", []string{web2}},
		{"a name matches before the beginning of an id", "container=cccc1", []string{web2}},
		{"the beginning of several ids", "container=cccc", []string{web1, web2, onDB}},
		{"too little of an id", "container=ccc", nil},
		{"either container", "container=web&container=cccc2", []string{web1, web2, onDB}},
		{"unknown container", "container=nobody", nil},
		{"unknown container beside a known one", "container=nobody&container=cccc2", []string{web2}},
		{"network and container", "network=db&container=web", []string{onDB}},
		{"container of another network", "network=db&container=cccc2", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, body := get(t, newServer(nil), "/v1/endpoints?"+tt.query)
			if code != http.StatusOK {
				t.Fatalf("status %d: %s", code, body)
			}
			var list []api.Endpoint
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range list {
				got = append(got, e.ID[:5])
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLiveObservesOnlyWhatIsListed(t *testing.T) {
	for value, want := range map[string]api.Source{"1": api.Kernel, "kernel": api.Kernel, "nsproc": api.Nsproc} {
		host, names := twoNetworks()
		s := New(Options{Tracker: host, Inspector: host, Names: names})
		if code, body := get(t, s, "/v1/endpoints?network=app&container=web&live="+value); code != http.StatusOK {
			t.Fatalf("status %d: %s", code, body)
		}
		if host.source != want || !host.hasDeadline {
			t.Errorf("live=%s: observed by %q, with a deadline %t; want %q, with one",
				value, host.source, host.hasDeadline, want)
		}
		if diff := cmp.Diff([]driver.EndpointID{driver.EndpointID(id("eeee1"))}, host.wanted); diff != "" {
			t.Errorf("observed endpoints (-want +got):\n%s", diff)
		}
	}
}

// TestNewName: a network or an endpoint that Docker has just named can be selected by its name and is listed with it.
// An old one without a name makes no listing wait for new names.
func TestNewName(t *testing.T) {
	for _, tt := range []struct {
		target    string
		created   time.Time
		refreshed bool
		want      string
	}{
		{"/v1/endpoints", time.Now(), true, `"containerName":"web"`},
		{"/v1/endpoints", day, false, `"state":"up"`},
		{"/v1/networks", time.Now(), true, `"name":"app"`},
		{"/v1/networks", day, false, `"endpoints":1`},
		{"/v1/endpoints?network=app", day, true, `"networkName":"app"`},
		{"/v1/endpoints?container=web", day, true, `"containerName":"web"`},
		{"/v1/endpoints?network=none", day, true, `no such network here`},
	} {
		n, e, _ := web()
		n.Created, e.Created = tt.created, tt.created
		host := &fakeHost{networks: []driver.Network{n}, endpoints: []driver.Endpoint{e}}
		names := fakeNames{networks: map[string]string{}, containers: map[string][2]string{}}
		refreshed := false
		names.refresh = func() {
			refreshed = true
			names.networks[string(n.ID)] = "app"
			names.containers[string(e.ID)] = [2]string{id("cccc1"), "web"}
		}
		_, body := get(t, New(Options{Tracker: host, Inspector: host, Names: names}), tt.target)
		if refreshed != tt.refreshed || !strings.Contains(body, tt.want) {
			t.Errorf("%s, created %v: names refreshed %t, want %t; answer %s, want %s",
				tt.target, tt.created, refreshed, tt.refreshed, body, tt.want)
		}
	}
}

// TestLiveDuringChange: an endpoint that joins, leaves or is deleted while it is observed shows no drift.
func TestLiveDuringChange(t *testing.T) {
	_, up, _ := web()
	created := inState(up, driver.Created)
	tests := []struct {
		name          string
		before, after []driver.Endpoint
		want          string // the drift of each endpoint that is listed
	}{
		{"nothing changed", []driver.Endpoint{up}, []driver.Endpoint{up}, "[[container end missing in the container]]"},
		{"joined meanwhile", []driver.Endpoint{created}, []driver.Endpoint{up}, "[[]]"},
		{"left meanwhile", []driver.Endpoint{up}, []driver.Endpoint{created}, "[[]]"},
		{"deleted meanwhile", []driver.Endpoint{up}, nil, "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, e, o := web()
			o.Inside = nil
			host := &fakeHost{networks: []driver.Network{n}, endpoints: tt.before}
			host.observed = map[driver.EndpointID]inspect.Observation{e.ID: o}
			host.meanwhile = func() { host.endpoints = tt.after }
			_, body := get(t, New(Options{Tracker: host, Inspector: host}), "/v1/endpoints?live=1")
			var list []api.Endpoint
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				t.Fatal(err)
			}
			got := [][]api.Drift{}
			for _, e := range list {
				got = append(got, e.Drift)
			}
			if text := fmt.Sprint(got); text != tt.want {
				t.Errorf("drift %s, want %s", text, tt.want)
			}
		})
	}
}

func BenchmarkEndpoints(b *testing.B) {
	n, e, o := web()
	host := &fakeHost{networks: []driver.Network{n}, observed: map[driver.EndpointID]inspect.Observation{}}
	names := fakeNames{networks: map[string]string{string(n.ID): "app"}, containers: map[string][2]string{}}
	for i := range 100 {
		e.ID = driver.EndpointID(id(fmt.Sprintf("%04x", i)))
		e.Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, 0, byte(i)}), 22)}
		host.endpoints = append(host.endpoints, e)
		host.observed[e.ID] = o
		names.containers[string(e.ID)] = [2]string{id(fmt.Sprintf("c%04x", i)), fmt.Sprintf("web-%d", i)}
	}
	s := New(Options{Tracker: host, Inspector: host, Names: names})
	for name, target := range map[string]string{"tracked": "/v1/endpoints", "live": "/v1/endpoints?live=1"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if code, body := get(b, s, target); code != http.StatusOK {
					b.Fatal(body)
				}
			}
		})
	}
}
