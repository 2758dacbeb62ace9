// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestEtcdIsMadeAnew: hosts whose etcd has lost everything write and read all again, without being started again.
func TestEtcdIsMadeAnew(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	client := etcd.Client(t)
	for range 300 { // an etcd that has been used for a while
		if _, err := client.Put(t.Context(), "other", "x"); err != nil {
			t.Fatal(err)
		}
	}
	hosts := startMembers(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	b.awaitRemotes("app", "e2")
	etcd.Kill(t, 0)
	etcd.Wipe(t, 0)
	etcd.Restart(t, 0)
	b.await("all of both hosts", func() bool {
		all := strings.Join(keysBelow(t, etcd, "weave/"), " ")
		for _, want := range []string{
			a.keys.network("app"), a.keys.member("app", a.id), b.keys.member("app", b.id), a.keys.holder(a.id),
			a.keys.endpoint("app", a.id, "e2"),
		} {
			if !strings.Contains(all, want) {
				return false
			}
		}
		return true
	})
	a.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3)})
	b.awaitRemotes("app", "e2", "e3")
	for _, h := range hosts {
		h.await("end of the problems", func() bool { return len(h.Problems()) == 0 })
	}
}

// TestEtcdIsRestored: hosts whose etcd has lost the last changes, since it was restored from a backup, tell it of them
// again: what one of them holds is not given to another one.
func TestEtcdIsRestored(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startMembers(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	claim := claimOf(app().Subnets[0].Subnet.String())
	etcd.Kill(t, 0)
	restore := etcd.Backup(t, 0)
	etcd.Restart(t, 0)
	var block netip.Prefix
	a.await("claim", func() (ok bool) {
		var err error
		block, err = a.ClaimBlock(t.Context(), claim)
		return err == nil
	})
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	b.awaitRemotes("app", "e2")
	etcd.Kill(t, 0)
	restore()
	etcd.Restart(t, 0)
	a.await("claim is told again", func() bool {
		held, err := b.Holdings(t.Context(), "app")
		return err == nil && len(held[a.id]) == 1 && held[a.id][0] == block
	})
	a.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3)})
	b.awaitRemotes("app", "e2", "e3")
	for _, h := range hosts {
		h.await("end of the problems", func() bool { return len(h.Problems()) == 0 })
	}
}
