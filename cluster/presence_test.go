// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestSlowEtcd: a write that etcd does not answer in time is made again, and nothing else: what all hosts write again
// would keep etcd slow.
func TestSlowEtcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	a := newHost(t, 1, etcd.URLs(), func(o *Options) { o.Lease = 5 * time.Minute }).start()
	a.join(app())
	all := []Endpoint{endpoint("app", 2), endpoint("app", 3), endpoint("app", 4)}
	a.SetEndpoints(all)
	revisions := func() map[string]int64 {
		out := map[string]int64{}
		reader := &Cluster{client: etcd.Client(t)}
		records, _, err := reader.list(t.Context(), a.keys.endpoints("app"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			out[r.key[strings.LastIndex(r.key, "/")+1:]] = r.revision
		}
		return out
	}
	a.await("endpoints", func() bool { return len(revisions()) == len(all) })
	want := revisions()
	goOn := etcd.Pause(t, 0)
	a.SetEndpoints(all[1:])
	a.await("problem", func() bool {
		return strings.Contains(strings.Join(a.Problems(), ""), "write what this host has")
	})
	goOn()
	a.await("end of the problem", func() bool { return len(a.Problems()) == 0 })
	delete(want, "e2")
	if diff := cmp.Diff(want, revisions()); diff != "" {
		t.Errorf("revisions of the endpoints (-want +got):\n%s", diff)
	}
}

// TestLateWrite: what etcd is told of an endpoint is not undone by a write of before that it makes later.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	a := newHost(t, 1, etcd.URLs(), nil)
	c, err := Open(t.Context(), a.options)
	if err != nil {
		t.Fatal(err)
	}
	a.Cluster = c
	if c.connect(t.Context()) != nil {
		t.Fatal("not connected")
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	p, err := c.register(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := c.keys.endpoint("app", c.id, "e2")
	before := *p
	p.written[key] = "" // the answer to a write was lost, which etcd will make
	if err := c.writePresence(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	before.written = map[string]string{}
	if err := c.change(t.Context(), &before, map[string]string{key: "late"}); err == nil {
		t.Error("etcd makes a write that came late")
	}
	if got := keysBelow(t, etcd, "weave/endpoints"); len(got) > 0 || len(p.written) != 1 {
		t.Errorf("etcd has %q, and this host thinks it has %v", got, p.written)
	}
}
