// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

// TestUnseenWarning: there is a warning for a sandbox that is no mount of a namespace, except if a later one is
// visible, or if it is gone.
func TestUnseenWarning(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const visible = "/proc/self/ns/net"
	for _, c := range []struct {
		name      string
		root      sandbox.Root
		sandboxes []string
		warned    bool
	}{
		{"none", "", []string{""}, false},
		{"visible", "", []string{visible}, false},
		{"plain file", sandbox.Root(root), []string{"/plain"}, true},
		{"plain file after one that is gone", sandbox.Root(root), []string{"/gone", "/plain"}, true},
		{"plain file, then a visible one", "", []string{filepath.Join(root, "plain"), visible}, false},
		{"a visible one, then a plain file", "", []string{visible, filepath.Join(root, "plain")}, true},
		{"gone", sandbox.Root(root), []string{"/gone"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var endpoints []driver.Endpoint
			for i, path := range c.sandboxes {
				created := time.Unix(int64(i), 0)
				endpoints = append(endpoints, driver.Endpoint{Sandbox: path, Carrier: true, Created: created})
			}
			slices.Reverse(endpoints)
			ended := driver.Endpoint{Sandbox: "/plain"} // of a container that has ended
			endpoints = append(endpoints, ended)
			if got := unseenWarning(endpoints, c.root); (got != "") != c.warned {
				t.Errorf("warning %q, want one: %v", got, c.warned)
			}
		})
	}
}

// TestStillWrong: of what was a problem at the start, only what still is one is told with the start.
func TestStillWrong(t *testing.T) {
	atStart := []string{"bridge br-lan: busy", "endpoint 1: host end wve-1 is gone"}
	now := []string{"bridge br-lan: it is missing or was changed", "endpoint 2: host end wve-2 is gone"}
	if got := stillWrong(atStart, now); !slices.Equal(got, now[:1]) {
		t.Errorf("got %q, want %q", got, now[:1])
	}
}

// TestStatusIsOfNow: a warning comes with what is wrong and goes with it, without a restart.
func TestStatusIsOfNow(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	cfg := newConfig(t)
	cfg.DockerSocket = filepath.Join(t.TempDir(), "no.sock")
	startDaemon(t, cfg)
	status := func() api.Status {
		t.Helper()
		s, err := api.NewClient(cfg.APISocket).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// It is somebody else's, so weave can't make it again.
	lan := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br-lan"}}
	if err := netlink.LinkAdd(lan); err != nil {
		t.Fatal(err)
	}
	code, reply, err := call(cfg.PluginSockets[0], "NetworkDriver.CreateNetwork", `{"NetworkID":"`+networkID+`",
		"Options":{"com.docker.network.generic":{"works.weave.bridge":"br-lan"}}}`)
	if err != nil || code != http.StatusOK {
		t.Fatalf("create the network: %d, %s, %v", code, reply, err)
	}
	eventually(t, "Docker is found to be unreachable", func() bool {
		return strings.Contains(status().Docker.Error, "no.sock")
	})
	if s := status(); len(s.Warnings) != 0 || s.Docker.Reachable || s.Networks != 1 {
		t.Errorf("status %+v, want one network and no warning", s)
	}
	if err := netlink.LinkDel(lan); err != nil {
		t.Fatal(err)
	}
	s := status()
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "bridge br-lan") || s.Reconcile.Error != "" {
		t.Errorf("warnings %q and %q of the start, want one of the bridge", s.Warnings, s.Reconcile.Error)
	}
	if err := netlink.LinkAdd(lan); err != nil {
		t.Fatal(err)
	}
	if s := status(); len(s.Warnings) != 0 {
		t.Errorf("warnings %q after the bridge was made again", s.Warnings)
	}
}
