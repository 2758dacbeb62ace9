// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestHealOfACommonCut: hosts that lose etcd together for longer than their lease, and not each other, see each other
// all the time. One that does not come back goes.
func TestHealOfACommonCut(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	var hosts []*host
	for n := range 3 {
		h := newHost(t, n+1, []string{r.url()}, func(o *Options) { o.Lease = 3 * time.Second }).start()
		h.join(app())
		h.SetEndpoints([]Endpoint{endpoint("app", n+2)})
		hosts = append(hosts, h)
	}
	hosts[0].awaitRemotes("app", "e3", "e4")
	hosts[1].awaitRemotes("app", "e2", "e4")
	r.setCut(true)
	alive := hosts[:2]
	hosts[2].end()
	for _, h := range alive {
		h.await("end of the lease", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.isUnsettled
		})
	}
	r.setCut(false)
	for i, h := range alive {
		other := fmt.Sprintf("e%d", 3-i)
		h.await("end of the one that is dead", func() bool {
			for j, h := range alive {
				if got := h.remoteIDs("app"); !slices.Contains(got, fmt.Sprintf("e%d", 3-j)) {
					t.Fatalf("%s sees %v alone", h.options.Host.Name, got)
				}
			}
			return slices.Equal(h.remoteIDs("app"), []string{other})
		})
	}
}
