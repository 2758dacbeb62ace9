// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

func hasMulticastRoute(t *testing.T, sandbox *nstest.NS) (found bool) {
	t.Helper()
	sandbox.Do(t, func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
		for _, route := range routes {
			found = found || route.Dst != nil && route.Dst.String() == "224.0.0.0/4"
		}
		return err
	})
	return found
}

// TestConfigureIsRepeated: an nsproc that fails is run again. Otherwise a container would have no multicast route
// until it is restarted.
func TestConfigureIsRepeated(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dir := t.TempDir()
	const failsOnce = "#!/bin/sh\nif [ -e %[1]s/failed ]; then exec %[2]s; fi\n: >%[1]s/failed; exit 1\n"
	script := fmt.Sprintf(failsOnce, dir, nstest.Nsproc(t))
	path := filepath.Join(dir, "nsproc")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := newRigWith(t, path)
	r.createNetwork(withMulticast(netID))
	id, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	r.attach(id, sandbox, "eth0")
	eventually(t, "multicast route", func() bool { return hasMulticastRoute(t, sandbox) })
	if _, err := os.Stat(filepath.Join(dir, "failed")); err != nil {
		t.Error(err)
	}
}

// TestFlappingCarrier: a container whose link goes up and down all the time, and in which nsproc always fails, is
// configured at most once in configurePause and does not delay the others.
func TestFlappingCarrier(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho >>%[1]s/runs; exec %[2]s\n", dir, nstest.Nsproc(t))
	path := filepath.Join(dir, "nsproc")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := newRigWith(t, path)
	r.createNetwork(withMulticast(netID))
	start := time.Now()
	id, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	r.attach(id, sandbox, "eth0")
	sandbox.Do(t, func() error {
		link := mustLink(t, "eth0")
		if err := netlink.LinkSetHardwareAddr(link, net.HardwareAddr{2, 0, 0, 0, 0, 1}); err != nil {
			return err
		}
		for range 100 {
			if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetUp(link)); err != nil {
				return err
			}
		}
		return nil
	})
	other, _ := r.createEndpoint(netID, 2)
	sandbox = nstest.New(t)
	r.attach(other, sandbox, "eth0")
	eventually(t, "multicast route of the other", func() bool { return hasMulticastRoute(t, sandbox) })
	most := 2 + 1 + int(time.Since(start)/configurePause) // the first run of each endpoint, and the later ones
	runs, err := os.ReadFile(filepath.Join(dir, "runs"))
	if n := strings.Count(string(runs), "\n"); err != nil || n > most {
		t.Errorf("nsproc ran %d times (%v), want at most %d", n, err, most)
	}
}

// TestConfigureInTheNextSandbox: an endpoint that moves to another sandbox while the work in its first one is not over
// yet is configured in the second one as well.
func TestConfigureInTheNextSandbox(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(withMulticast(netID))
	id, _ := r.createEndpoint(netID, 1)
	first, second, host := nstest.New(t), nstest.New(t), hostNamespace(t)
	r.attach(id, first, "eth0")
	eventually(t, "multicast route in the first sandbox", func() bool { return hasMulticastRoute(t, first) })
	if err := r.Leave(t.Context(), netID, id); err != nil {
		t.Fatal(err)
	}
	first.Do(t, func() error { // as Docker does after Leave
		link := mustLink(t, "eth0")
		return errors.Join(
			netlink.LinkSetDown(link), netlink.LinkSetName(link, containerEndName(id)), netlink.LinkSetNsFd(link, host))
	})
	r.attach(id, second, "eth0")
	eventually(t, "multicast route in the second sandbox", func() bool { return hasMulticastRoute(t, second) })
}

// hostNamespace opens the namespace that the test runs in.
func hostNamespace(t *testing.T) int {
	t.Helper()
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return int(file.Fd())
}
