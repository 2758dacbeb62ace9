package driver

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// An nsproc that fails is run again: else a container would miss its multicast route until it is started anew.
func TestConfigureIsRepeated(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nif [ -e %[1]s/failed ]; then exec %[2]s; fi\n: >%[1]s/failed; exit 1\n", dir, nstest.Nsproc(t))
	path := filepath.Join(dir, "nsproc")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := newRigWith(t, path)
	r.createNetwork(newNetwork(netID, optionMulticast, "true"))
	id, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	r.attach(id, sandbox, "eth0")
	eventually(t, "multicast route", func() (found bool) {
		sandbox.Do(t, func() error {
			routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
			for _, route := range routes {
				found = found || route.Dst != nil && route.Dst.String() == "224.0.0.0/4"
			}
			return err
		})
		return found
	})
	if _, err := os.Stat(filepath.Join(dir, "failed")); err != nil {
		t.Error(err)
	}
}
