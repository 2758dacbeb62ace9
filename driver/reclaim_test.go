// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestReclaimable(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	req := newNetwork(netID)
	req.Gateway = GatewayDocker
	req.Pools[0].Gateway = netip.MustParseAddr("10.40.0.1")
	req.Pools[0].Reserved = []netip.Addr{netip.MustParseAddr("10.40.0.9")}
	r.createNetwork(req)
	living, _ := r.createEndpoint(netID, 1)
	dead, _ := r.createEndpoint(netID, 2)
	r.attach(living, nstest.New(t), "eth0")
	if err := netlink.LinkDel(mustLink(t, hostEndName(dead))); err != nil {
		t.Fatal(err)
	}
	gone, _ := r.createEndpoint(netID, 4)
	r.delete(gone)
	subnet, long, now := netip.MustParsePrefix("10.40.0.0/16"), time.Now().Add(-time.Hour), time.Now()
	check := func(space, addr string, since time.Time, want bool, what string) {
		t.Helper()
		if got := r.Reclaimable(space, subnet, netip.MustParseAddr(addr), since); got != want {
			t.Errorf("%s reclaimable: %v, want %v: %s", addr, got, want, what)
		}
	}
	check("LocalDefault", "10.40.0.1", long, false, "gateway")
	check("LocalDefault", "10.40.0.9", long, false, "auxiliary")
	check("LocalDefault", "10.40.0.2", long, false, "of a living endpoint")
	check("LocalDefault", "10.40.0.3", long, true, "of a dead one")
	check("LocalDefault", "10.40.0.4", long, true, "of none")
	check("LocalDefault", "10.40.0.4", now, false, "of none yet")
	check("LocalDefault", "10.40.0.5", long, false, "of one that was deleted: Docker is about to release it")
	check("other", "10.40.0.4", long, false, "of a pool that no network has")
	r.DockerStarted() // the daemon before it will not finish what it has begun
	check("LocalDefault", "10.40.0.4", now, true, "of none, held for the daemon before")
	check("LocalDefault", "10.40.0.5", long, true, "of one that was deleted for the daemon before")
}
