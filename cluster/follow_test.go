// SPDX-License-Identifier: Apache-2.0

package cluster

import (
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
