// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/ipam"
)

// TestDiskWarning: a full and a read-only file system are told as long as they are so.
func TestDiskWarning(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	state, filler := filepath.Join(dir, "weave.db"), filepath.Join(dir, "filler")
	check := func(when, want string) {
		t.Helper()
		got := diskWarning(state)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: warning %q, want one with %q", when, got, want)
		}
	}
	check("at first", "")
	if err := os.WriteFile(filler, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	check("full", "free some space there")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	check("free again", "")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	check("read-only", "is read-only")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	check("writable again", "")
}

func TestWayOutWarning(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	outside := driver.Network{Definition: driver.Definition{ID: "a"}}
	internal := driver.Network{Definition: driver.Definition{ID: "b", Internal: true}}
	own := driver.Network{Definition: driver.Definition{ID: "c", Gateway: driver.GatewayNative}}
	networks := []driver.Network{outside, internal, own}
	on := func(nw driver.Network, sandbox string) []driver.Endpoint {
		return []driver.Endpoint{{Network: nw.ID, Sandbox: sandbox}}
	}
	for name, tt := range map[string]struct {
		known     bool
		endpoints []driver.Endpoint
		want      bool
	}{
		"Docker has not made it": {false, on(outside, "/run/docker/netns/x"), false},
		"no container":           {true, on(outside, ""), false},
		"internal network":       {true, on(internal, "/run/docker/netns/x"), false},
		"a gateway of its own":   {true, on(own, "/run/docker/netns/x"), false},
		"a second network's gateway": {true, append(on(outside, "/run/docker/netns/x"),
			driver.Endpoint{Network: own.ID, Sandbox: "/run/docker/netns/x", External: true}), false},
		"a container that is without": {true, on(outside, "/run/docker/netns/x"), true},
	} {
		if got := wayOutWarning(tt.known, networks, tt.endpoints); (got != "") != tt.want {
			t.Errorf("%s: warning %q", name, got)
		}
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: driver.WayOut}}); err != nil {
		t.Fatal(err)
	}
	if got := wayOutWarning(true, networks, on(outside, "/run/docker/netns/x")); got != "" {
		t.Errorf("it is there: warning %q", got)
	}
}

// TestStrayPools: a pool of a network of the cluster that another driver's network has is told, when its own network
// has had the time to be made.
func TestStrayPools(t *testing.T) {
	now := time.Now()
	pool := func(network string, age time.Duration) ipam.Pool {
		return ipam.Pool{Subnet: netip.MustParsePrefix("10.32.0.0/22"), Network: network, Created: now.Add(-age)}
	}
	isNetwork := func(cluster string) bool { return cluster == "app" }
	got := strayPoolWarnings([]ipam.Pool{
		pool("", time.Hour), pool("app", time.Hour), pool("shop", time.Second), pool("shop", time.Hour),
	}, isNetwork, now)
	if len(got) != 1 || !strings.Contains(got[0], "10.32.0.0/22 is of network shop") {
		t.Errorf("%q, want the one of shop that is an hour old", got)
	}
}
