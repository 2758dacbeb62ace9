// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestForeignBridgeIsUsedAndKept: a bridge that was there before the network is used, and never changed or deleted.
func TestForeignBridgeIsUsedAndKept(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed("br0")}); err != nil {
		t.Fatal(err)
	}
	before := mustLink(t, "br0").Attrs()
	r.createNetwork(onBridge(netID, "br0"))
	id, _ := r.createEndpoint(netID, 1)
	if got := mustLink(t, hostEndName(id)).Attrs().MasterIndex; got != before.Index {
		t.Errorf("host end is a port of link %d, want of %d", got, before.Index)
	}
	r.stop()
	r.start()
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	after := mustLink(t, "br0").Attrs()
	if after.Alias != "" || after.Flags != before.Flags {
		t.Errorf("foreign bridge changed: alias %q, flags %v, want none and %v", after.Alias, after.Flags, before.Flags)
	}
	if left := ownLinks(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	r.createNetwork(onBridge(netID, "br1"))
	if mustLink(t, "br1").Attrs().Alias == "" {
		t.Error("a named bridge that weave made carries no alias")
	}
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if l, err := findLink("br1"); l != nil || err != nil {
		t.Errorf("a named bridge that weave made is still there (%v)", err)
	}

	// Somebody puts another bridge in the place of one of weave's, and weave has not looked yet.
	r.createNetwork(onBridge(netID, "br1"))
	r.pause()
	if err := netlink.LinkDel(mustLink(t, "br1")); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed("br1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateEndpoint(t.Context(), newEndpoint(netID, 2)); !errors.Is(err, ErrConflict) {
		t.Errorf("an endpoint on it: got %v, want ErrConflict", err)
	}
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if got := mustLink(t, "br1").Attrs(); got.Alias != "" || got.Flags&net.FlagUp != 0 {
		t.Errorf("it was changed: alias %q, flags %v", got.Alias, got.Flags)
	}
}

// TestNamedBridgeAfterCrash: a bridge that was being made again after a reboot when weave crashed is still weave's
// own.
func TestNamedBridgeAfterCrash(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	spec := onBridge(netID, "br-app")
	spec.Firewall = FirewallHost
	r.createNetwork(spec)
	for _, half := range []string{"made", "with its alias"} {
		r.stop()
		if err := netlink.LinkDel(mustLink(t, "br-app")); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed(bridgeName(netID))}); err != nil {
			t.Fatal(err)
		}
		if half != "made" {
			own := networkAlias(r.stateID, netID).String()
			if err := netlink.LinkSetAlias(mustLink(t, bridgeName(netID)), own); err != nil {
				t.Fatal(err)
			}
		}
		r.start()
		checkConsistent(t, r.Driver)
		if nw, _ := r.tracked.network(netID); nw.Foreign || nw.Bridge != "br-app" {
			t.Errorf("%s: got %+v", half, nw)
		}
	}
}

// TestNamedBridgeOfSomebodyElse: after a reboot the host's own configuration made the bridge that weave had made
// before.
func TestNamedBridgeOfSomebodyElse(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(onBridge(netID, "br-lan"))
	r.stop()
	for range 2 {
		if err := netlink.LinkDel(mustLink(t, "br-lan")); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed("br-lan")}); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.stop()
	}
	r.start()
	if got := r.Networks(); len(got) != 1 || !got[0].Foreign {
		t.Errorf("networks %+v, want one whose bridge is foreign", got)
	}
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if a := mustLink(t, "br-lan").Attrs(); a.Alias != "" {
		t.Errorf("alias %q on a bridge of somebody else's", a.Alias)
	}
}
