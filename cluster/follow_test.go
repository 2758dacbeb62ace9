// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestAnswersOfSeveralEvents: etcd tells in one answer what one transaction has changed, and to a host that was cut off
// what has happened meanwhile. All of an answer is taken.
func TestAnswersOfSeveralEvents(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	a, b := newHost(t, 1, etcd.URLs(), nil).start(), newHost(t, 2, []string{r.url()}, nil).start()
	c := newHost(t, 3, etcd.URLs(), nil).start()
	hosts := []*host{a, b, c}
	for _, h := range hosts {
		h.join(app())
	}
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	for _, h := range hosts[1:] {
		h.awaitRemotes("app", "e2") // all that comes later is told by the watch
	}
	a.SetEndpoints([]Endpoint{endpoint("app", 4), endpoint("app", 5)})
	for _, h := range hosts[1:] {
		h.awaitRemotes("app", "e4", "e5")
	}
	r.setCut(true)
	for n := range 3 {
		a.SetEndpoints([]Endpoint{endpoint("app", n+6), endpoint("app", n+7)})
		c.awaitRemotes("app", endpoint("app", n+6).ID, endpoint("app", n+7).ID) // each is a transaction of its own
	}
	r.setCut(false)
	b.awaitRemotes("app", "e8", "e9")
}

// TestHugeRecords: what is too large for a record of weave's, whoever has written it, keeps a host from reading nothing
// else.
func TestHugeRecords(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	client := etcd.Client(t)
	huge := strings.Repeat("x", 1<<20)
	for n := range 10 { // more than one answer may have
		if _, err := client.Put(t.Context(), fmt.Sprintf("weave/hosts/%d", n), huge); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t, 1, etcd.URLs(), nil).start()
	h.await("presence", func() bool { return len(h.Hosts()) == 1 && h.Hosts()[0].Present && len(h.Problems()) == 0 })
}
