// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestReboot: after a reboot the state is there, and no link. Reconcile makes the bridges again, before any call needs
// them, but no endpoints, since Docker makes new ones.
func TestReboot(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	r.stop()
	for _, name := range []string{hostEndName(id), bridgeName(netID)} {
		if err := netlink.LinkDel(mustLink(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("iptables", "-F").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	report := r.start()
	if len(report.Problems) != 0 || report.Networks != 1 || report.Endpoints != 0 {
		t.Errorf("report %+v, want one network, no endpoint, no problems", report)
	}
	checkConsistent(t, r.Driver)
	r.createEndpoint(netID, 1)
}

// TestReconcileRepairs: the next start puts right what somebody has changed while the plugin was stopped.
func TestReconcileRepairs(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	moved, _ := r.createEndpoint(netID, 1)
	lost, _ := r.createEndpoint(netID, 2)
	r.attach(lost, nstest.New(t), "eth0")
	r.stop()
	for _, err := range []error{
		netlink.LinkSetNoMaster(mustLink(t, hostEndName(moved))),
		netlink.LinkSetDown(mustLink(t, hostEndName(moved))),
		netlink.LinkSetDown(mustLink(t, bridgeName(netID))),
		netlink.LinkDel(mustLink(t, hostEndName(lost))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	report := r.start()
	want := []string{
		"bridge " + bridgeName(netID) + ": down", "host end " + hostEndName(moved) + ": port of no bridge, down",
	}
	if !slices.Equal(report.Repaired, want) {
		t.Errorf("repaired %v, want %v", report.Repaired, want)
	}
	// The other endpoint's container still runs: the listing has to show what it lacks.
	if report.Endpoints != 2 || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "connect it again") {
		t.Errorf("report %+v, want both endpoints and one problem", report)
	}
}

// TestLinksOfOthersStay: a second instance with a state of its own removes no links of the first one, and none whose
// names only look like weave's.
func TestLinksOfOthersStay(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	first := newRig(t)
	first.createNetwork(newNetwork(netID))
	first.createEndpoint(netID, 1)
	for _, name := range []string{"wv-aaaaaaaaaaaa", "wve-bbbbbbbbbbb"} {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed(name)}); err != nil {
			t.Fatal(err)
		}
	}
	before, rules := ownLinks(t), ownRules(t)
	second := newRig(t)
	if n := len(second.Networks()); n != 0 {
		t.Errorf("the second instance tracks %d networks", n)
	}
	second.stop()
	second.start()
	if after := ownLinks(t); !slices.Equal(before, after) {
		t.Errorf("links %v before, %v after", before, after)
	}
	if after := ownRules(t); !slices.Equal(rules, after) {
		t.Errorf("rules %v before, %v after", rules, after)
	}
	if err := second.CreateNetwork(t.Context(), newNetwork(netID)); err == nil {
		t.Error("the second instance took the first one's bridge")
	}
	if after := ownLinks(t); !slices.Equal(before, after) {
		t.Errorf("links %v before, %v after a refusal", before, after)
	}
}

// TestReconcileRemovesUnrecordedLinks: links with this state's alias that no record names are removed.
func TestReconcileRemovesUnrecordedLinks(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	nw, _ := r.tracked.network(netID)
	ep, _ := r.tracked.endpoint(id)
	if err := errors.Join(r.eraseNetwork(t.Context(), nw), r.eraseEndpoint(t.Context(), ep)); err != nil {
		t.Fatal(err)
	}
	r.stop()
	report := r.start()
	if len(report.Removed) != 2 || len(report.Problems) != 0 {
		t.Errorf("report %+v, want two links removed", report)
	}
	checkConsistent(t, r.Driver)
}

// TestLostRecordsOfEndpoints: containers keep their links, and weave adopts them.
func TestLostRecordsOfEndpoints(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	used, mac := r.createEndpoint(netID, 1)
	r.createEndpoint(netID, 2) // in no container
	sandbox := nstest.New(t)
	r.attach(used, sandbox, "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := r.tracked.endpoint(used); return ep.State() == Up })
	ep, _ := r.tracked.endpoint(used)
	r.stop()
	if err := os.Remove(r.endpoints); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.stop()
		if report := r.start(); report.Endpoints != 0 || len(report.Problems) != 1 {
			t.Errorf("report %+v, want the problem of one link", report)
		}
	}
	known := []AdoptedEndpoint{adopted(used, mac, ep.Addresses, sandbox.Path())}
	if err := r.Adopt(t.Context(), newNetwork(netID), known); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.tracked.endpoint(used); got.State() != Up {
		t.Errorf("got %+v, want an endpoint that is up", got)
	}
	links, err := netlink.LinkList()
	if err != nil || len(links) != 3 { // lo, the bridge, and the host end
		t.Errorf("links %v (%v)", links, err)
	}
}
