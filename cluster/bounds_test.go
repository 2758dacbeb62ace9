// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/store"
)

// TestBounded: an endpoint has what one of its network can have, and nothing else.
func TestBounded(t *testing.T) {
	long := strings.Repeat("x", 256)
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	good := Endpoint{
		Addresses: prefixes("10.32.0.5/22", "fd00:32::5/64"), ContainerName: "web.1", ContainerID: "0123456789ab",
		Names: []string{"web", "shop"},
	}
	v4 := app()
	v4.Subnets = v4.Subnets[:1]
	for name, tt := range map[string]struct {
		network Network
		change  func(*Endpoint)
		want    func(*Endpoint) // nil: as it was
		told    string          // empty: nothing
	}{
		"all good": {app(), func(*Endpoint) {}, nil, ""},
		"no names": {app(), func(ep *Endpoint) { ep.ContainerName, ep.ContainerID, ep.Names = "", "", nil }, nil, ""},
		"an address of no subnet": {
			app(), func(ep *Endpoint) { ep.Addresses[0] = netip.MustParsePrefix("10.33.0.5/22") },
			func(ep *Endpoint) { ep.Addresses = ep.Addresses[1:] }, "address 10.33.0.5/22",
		},
		"a family without a subnet": {v4, func(*Endpoint) {}, nil, ""},
		"no subnets":                {Network{}, func(*Endpoint) {}, nil, ""},
		"no address": {
			Network{}, func(ep *Endpoint) { ep.Addresses[0] = netip.Prefix{} },
			func(ep *Endpoint) { ep.Addresses = ep.Addresses[1:] }, "address invalid Prefix",
		},
		"IPv4 in IPv6": {
			Network{}, func(ep *Endpoint) { ep.Addresses[1] = netip.MustParsePrefix("::ffff:10.32.0.6/126") },
			func(ep *Endpoint) { ep.Addresses = ep.Addresses[:1] }, "address ::ffff:10.32.0.6/126",
		},
		"two of a family": {
			app(), func(ep *Endpoint) {
				ep.Addresses = append(ep.Addresses, prefixes("10.32.0.6/22", "fd00:32::6/64")...)
			},
			func(ep *Endpoint) { ep.Addresses = ep.Addresses[:2] }, "address 10.32.0.6/22, address fd00:32::6/64",
		},
		"a long name": {
			app(), func(ep *Endpoint) { ep.ContainerName = long },
			func(ep *Endpoint) { ep.ContainerName = "" }, "a container's name of 256 bytes",
		},
		"a name that acts on a terminal": {
			app(), func(ep *Endpoint) { ep.ContainerName = "web\x1b[2J" },
			func(ep *Endpoint) { ep.ContainerName = "" }, "a container's name of 7 bytes",
		},
		"a long id": {
			app(), func(ep *Endpoint) { ep.ContainerID = long },
			func(ep *Endpoint) { ep.ContainerID = "" }, "a container's id of 256 bytes",
		},
		"a long alias": {
			app(), func(ep *Endpoint) { ep.Names = append(ep.Names, long) },
			func(ep *Endpoint) { ep.Names = ep.Names[:2] }, "1 of 3 names",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ep := good
			ep.Addresses, ep.Names = slices.Clone(good.Addresses), slices.Clone(good.Names)
			tt.change(&ep)
			want := ep
			if tt.want != nil {
				tt.want(&want)
			}
			got, without := ep.bounded(tt.network)
			if told := strings.Join(without, ", "); !got.Equal(want) || told != tt.told {
				t.Errorf("%+v without %q,\nwant %+v without %q", got, told, want, tt.told)
			}
		})
	}
}

// safeBuffer takes a log that several goroutines write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestRecordsOutOfBounds: what another host, or somebody else, has written of an endpoint is taken as far as it can be
// so, with one warning for a record. A host tells nothing that the others would leave out.
func TestRecordsOutOfBounds(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	var log safeBuffer
	a := newHost(t, 1, etcd.URLs(), func(o *Options) {
		l := logrus.New()
		l.SetOutput(&log)
		o.Log = l.WithField("host", 1)
	}).start()
	b := newHost(t, 2, etcd.URLs(), nil).start()
	a.join(app())
	b.join(app())

	bad := endpoint("app", 5)
	bad.Addresses = append(bad.Addresses, netip.MustParsePrefix("10.99.0.1/22"))
	bad.ContainerName, bad.Names = strings.Repeat("x", 300), []string{"web", "a b"}
	b.SetEndpoints([]Endpoint{bad})
	a.awaitRemotes("app", "e5")
	if text := log.String(); strings.Contains(text, "left out") {
		t.Errorf("the other host has told what is left out here: %s", text)
	}

	bad.ID = "e6"
	key := b.keys.endpoint("app", b.id, bad.ID)
	if _, err := etcd.Client(t).Put(t.Context(), key, encode(bad)); err != nil {
		t.Fatal(err)
	}
	a.awaitRemotes("app", "e5", "e6")
	remotes, _ := a.Remotes("app")
	for _, r := range remotes {
		want := bad
		want.ID, want.Host, want.Addresses = r.ID, b.id, bad.Addresses[:1]
		want.ContainerName, want.Names = "", bad.Names[:1]
		if !r.Endpoint.Equal(want) {
			t.Errorf("%+v,\nwant %+v", r.Endpoint, want)
		}
	}
	const told = "address 10.99.0.1/22, a container's name of 300 bytes, 1 of 2 names"
	if text := log.String(); strings.Count(text, "left out") != 1 || !strings.Contains(text, told) {
		t.Errorf("log:\n%s\nwant one warning with %q", text, told)
	}
}

// TestViewOutOfBounds: a record of what this host knew last that is not so any more does not keep weave from starting.
func TestViewOutOfBounds(t *testing.T) {
	t.Parallel()
	a := startHosts(t, 1, etcdtest.Start(t, 1))[0]
	a.join(app())
	a.end()
	for _, value := range []string{"{", `{"mac":"00:00:00:00:00:00"}`} {
		record := store.Change{Key: viewEndpointPrefix + "app/0000000000000002/e1", Value: []byte(value)}
		if err := a.options.Store.Apply(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		a.start()
		if remotes, _ := a.Remotes("app"); len(remotes) > 0 {
			t.Errorf("%s: remotes %v", value, remotes)
		}
		a.end()
	}
}

// TestEncode: what is written is as people read it.
func TestEncode(t *testing.T) {
	const want = `{"mac":"02:00:00:00:00:01","addresses":null,"names":["a<b>&c"]}`
	if got := encode(Endpoint{MAC: mac.MustParse("02:00:00:00:00:01"), Names: []string{"a<b>&c"}}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestValidNames(t *testing.T) {
	long := strings.Repeat("x", 63)
	got := ValidNames([]string{
		"", "web", "Web", "my_svc", "a.b", "web", ".a", "a.", "a..b", "with space", "\x00", "ümlaut", long, long + "x",
		strings.Repeat(long+".", 4),
	})
	if want := []string{"web", "Web", "my_svc", "a.b", long}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	var many []string
	for i := range 2 * maxNames {
		many = append(many, fmt.Sprint("n", i))
	}
	if got := ValidNames(many); !slices.Equal(got, many[:maxNames]) {
		t.Errorf("%d names: %q", len(many), got)
	}
}
