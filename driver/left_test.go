// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// olderState is a rig whose state is put back to what it was before its second network was made, with a container on
// each network.
type olderState struct {
	*rig
	first, second Endpoint
	spec          NetworkSpec // of the second network
	sandbox       *nstest.NS  // of the second endpoint
	links         []netlink.Link
}

const secondID = NetworkID("5ec0dd0000000000000000000000000000000000000000000000000000000000")

// newOlderState leaves the rig stopped.
func newOlderState(t *testing.T) *olderState {
	t.Helper()
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	r.attach(id, nstest.New(t), "eth0")
	r.stop()
	older, err := os.ReadFile(r.state)
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	o := &olderState{rig: r, spec: underHostRules(secondID), sandbox: nstest.New(t)}
	o.spec.Multicast = true
	r.createNetwork(o.spec)
	second, _ := r.createEndpoint(secondID, 2)
	r.attach(second, o.sandbox, "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := r.tracked.endpoint(second); return ep.State() == Up })
	o.first, _ = r.tracked.endpoint(id)
	o.second, _ = r.tracked.endpoint(second)
	r.stop()
	if err := os.WriteFile(r.state, older, 0o600); err != nil {
		t.Fatal(err)
	}
	o.links = []netlink.Link{mustLink(t, bridgeName(secondID)), mustLink(t, o.second.HostEnd)}
	return o
}

// checkLinks checks that the second network's links and its rule are as they were.
func (o *olderState) checkLinks() {
	o.t.Helper()
	for _, before := range o.links {
		now := mustLink(o.t, before.Attrs().Name)
		if now.Attrs().Index != before.Attrs().Index || now.Attrs().MasterIndex != before.Attrs().MasterIndex {
			o.t.Errorf("%s was %+v and is %+v", now.Attrs().Name, before.Attrs(), now.Attrs())
		}
	}
	if len(firewallTables(o.t)) == 0 {
		o.t.Error("no rules for the second network")
	}
}

// TestOlderStateIsPutBack: the state lacks a network that a container is on. What it uses stays, is told, and is taken
// up.
func TestOlderStateIsPutBack(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	o := newOlderState(t)
	report := o.start()
	if len(report.Removed) != 0 || report.Networks != 1 || report.Endpoints != 1 || len(report.Problems) != 2 {
		t.Errorf("report %+v, want one network, one endpoint, nothing removed, and two problems", report)
	}
	o.checkLinks()
	checkProblems(t, o.rig, "endpoint "+string(o.second.ID), "link "+bridgeName(secondID))

	o.stop()
	o.start() // nothing is forgotten by a further start
	o.checkLinks()
	ep := adopted(o.second.ID, o.second.MAC, o.second.Addresses, o.second.Sandbox)
	if err := o.Adopt(t.Context(), o.spec, []AdoptedEndpoint{ep}); err != nil {
		t.Fatal(err)
	}
	o.checkLinks()
	checkProblems(t, o.rig)
	got, _ := o.tracked.endpoint(o.second.ID)
	if got.State() != Up || !slices.Equal(got.Addresses, o.second.Addresses) {
		t.Errorf("the endpoint is %+v, want it up", got)
	}
	o.createEndpoint(secondID, 3)
	o.delete(o.second.ID)
	o.delete(endpointID(3))
	if err := o.DeleteNetwork(t.Context(), secondID); err != nil {
		t.Fatal(err)
	}
	rules, err := exec.Command("iptables", "-S", "FORWARD").CombinedOutput()
	if err != nil || strings.Contains(string(rules), bridgeName(secondID)) {
		t.Errorf("the network is gone, its rule is not (%v):\n%s", err, rules)
	}
}

// TestLeftEndpointIsDeleted: its container ends before Docker's API could be read.
func TestLeftEndpointIsDeleted(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	o := newOlderState(t)
	o.start()
	for range 2 {
		if err := o.DeleteEndpoint(t.Context(), secondID, o.second.ID); err != nil {
			t.Fatal(err)
		}
	}
	o.stop() // after the removal
	report := o.start()
	want := []string{"link " + bridgeName(secondID)}
	if !slices.Equal(report.Removed, want) || len(report.Problems) != 0 {
		t.Errorf("next start: %+v, want %v removed", report, want)
	}
}

// TestLeftEndpointEnds: its container ends, and nobody says so. The next start removes what is left.
func TestLeftEndpointEnds(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	o := newOlderState(t)
	o.start()
	if err := netlink.LinkDel(mustLink(t, o.second.HostEnd)); err != nil { // as when the sandbox goes
		t.Fatal(err)
	}
	checkProblems(t, o.rig, "link "+bridgeName(secondID))
	o.stop()
	report := o.start()
	want := []string{"endpoint " + string(o.second.ID), "link " + bridgeName(secondID)}
	if !slices.Equal(report.Removed, want) || len(report.Problems) != 0 {
		t.Errorf("next start: %+v, want %v removed", report, want)
	}
}

// TestOlderStateHasItHalfMade: the copy was made while the network was being made, or removed.
func TestOlderStateHasItHalfMade(t *testing.T) {
	for _, phase := range []Phase{Making, Going} {
		t.Run(string(phase), func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			r := newRig(t)
			r.createNetwork(newNetwork(netID))
			id, _ := r.createEndpoint(netID, 1)
			r.attach(id, nstest.New(t), "eth0")
			nw, _ := r.tracked.network(netID)
			nw.Phase = phase
			if err := r.writeNetwork(t.Context(), nw); err != nil {
				t.Fatal(err)
			}
			r.stop()
			index := mustLink(t, hostEndName(id)).Attrs().Index
			for range 2 {
				report := r.start()
				if len(report.Removed)+len(report.Problems) != 0 || report.Endpoints != 1 {
					t.Errorf("%+v, want the endpoint kept", report)
				}
				checkProblems(t, r)
				r.stop()
			}
			r.start()
			if got := mustLink(t, hostEndName(id)).Attrs().Index; got != index {
				t.Error("the host end is another one")
			}
			r.createEndpoint(netID, 2)
		})
	}
}

// TestAddressesInUse: those that an older copy of the addresses may lack.
func TestAddressesInUse(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	check := func(r *rig, want ...string) {
		t.Helper()
		var got []string
		for _, a := range r.AddressesInUse(t.Context(), "LocalDefault") {
			if !a.Addr().IsLinkLocalUnicast() {
				got = append(got, a.String())
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	all := []string{"10.40.0.2/16", "10.40.0.3/16", "fd00:40::2/64", "fd00:40::3/64"}
	o := newOlderState(t)
	o.start()
	check(o.rig, all...)
	if got := o.AddressesInUse(t.Context(), "other"); slices.Contains(got, netip.MustParsePrefix("10.40.0.2/16")) {
		t.Errorf("%v, want none of a network of another address space", got)
	}
	check(newRig(t), all...) // of another state, which knows none of the endpoints
}

// TestAddressesInUseWithoutKernel: where the kernel is not asked, the records tell.
func TestAddressesInUseWithoutKernel(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	o := newOlderState(t)
	o.start()
	o.kernel = nil
	if got := o.AddressesInUse(t.Context(), "LocalDefault"); len(got) != 4 {
		t.Errorf("%v, want four", got)
	}
	if _, err := o.CreateEndpoint(t.Context(), newEndpoint(secondID, 4)); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v, want ErrNotFound as long as the network is not taken up", err)
	}
}
