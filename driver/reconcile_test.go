package driver

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/store"
)

func lines(s string) (out []string) {
	for sc := bufio.NewScanner(strings.NewReader(s)); sc.Scan(); {
		out = append(out, sc.Text())
	}
	return out
}

// checkConsistent compares the records, what is tracked, the links and the firewall's rules with each other.
func checkConsistent(t *testing.T, d *Driver) {
	t.Helper()
	var want []string
	rules := 0
	for _, nw := range d.Networks() {
		want = append(want, nw.Bridge)
		rules += 2 // IPv4 and IPv6
	}
	for _, ep := range d.Endpoints() {
		want = append(want, ep.HostEnd, containerEndName(ep.ID))
		nw, _ := d.tracked.network(ep.Network)
		if mustLink(t, ep.HostEnd).Attrs().MasterIndex != mustLink(t, nw.Bridge).Attrs().Index {
			t.Errorf("host end %s is no port of %s", ep.HostEnd, nw.Bridge)
		}
	}
	slices.Sort(want)
	if got := ownLinks(t); !slices.Equal(got, want) {
		t.Errorf("links %v, want %v", got, want)
	}
	if got := ownRules(t); len(got) != rules {
		t.Errorf("rules %v, want %d", got, rules)
	}
	networks, err := store.Load[Network](t.Context(), d.store, networkKeys)
	if err != nil || len(networks) != len(d.Networks()) {
		t.Errorf("network records %v, %v, want %d", networks, err, len(d.Networks()))
	}
	endpoints, err := store.Load[endpointRecord](t.Context(), d.endpointStore, endpointKeys)
	if err != nil || len(endpoints) != len(d.Endpoints()) {
		t.Errorf("endpoint records %v, %v, want %d", endpoints, err, len(d.Endpoints()))
	}
}

// ownRules are the firewall's rules with weave's comment.
func ownRules(t *testing.T) (out []string) {
	t.Helper()
	for _, command := range []string{"iptables", "ip6tables"} {
		rules, err := exec.Command(command, "-S", "FORWARD").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines(string(rules)) {
			if strings.Contains(line, "weave:") {
				out = append(out, line)
			}
		}
	}
	return out
}

// TestNamedBridgeHalfMadeAgain: after a reboot, and a crash while the bridge was made again, it is weave's still.
func TestNamedBridgeHalfMadeAgain(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(onBridge(netID, "br-app"))
	for _, half := range []string{"made", "with its alias"} {
		r.stop()
		if err := netlink.LinkDel(mustLink(t, "br-app")); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed(bridgeName(netID))}); err != nil {
			t.Fatal(err)
		}
		if half != "made" {
			if err := netlink.LinkSetAlias(mustLink(t, bridgeName(netID)), networkAlias(r.stateID, netID).String()); err != nil {
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

// TestNetworkIsMadeAgainAfterItsRemovalFailed: the same network, as Swarm asks for it, is as good as new.
func TestNetworkIsMadeAgainAfterItsRemovalFailed(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	nw, _ := r.tracked.network(netID)
	nw.Phase = Going
	r.tracked.setNetwork(nw)
	if err := errors.Join(r.writeNetwork(t.Context(), nw), r.setForwarding(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateEndpoint(t.Context(), newEndpoint(netID, 1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("an endpoint on it: %v, want ErrNotFound", err)
	}
	r.createNetwork(newNetwork(netID))
	r.createEndpoint(netID, 1)
	checkConsistent(t, r.Driver)
	r.stop()
	r.start()
	if len(r.Endpoints()) != 1 {
		t.Errorf("endpoints %v after the next start, want one", r.Endpoints())
	}
	checkConsistent(t, r.Driver)
}

// TestReboot: every link is gone and the state is there. The bridges come back before anything asks for them; the
// endpoints do not, since Docker makes new ones.
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

// TestReconcileMends what somebody broke while the plugin was away.
func TestReconcileMends(t *testing.T) {
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
	if want := []string{"bridge " + bridgeName(netID), "host end " + hostEndName(moved)}; !slices.Equal(report.Repaired, want) {
		t.Errorf("repaired %v, want %v", report.Repaired, want)
	}
	// The container of the other one lives on: the listing has to show what it lacks.
	if report.Endpoints != 2 || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "connect it again") {
		t.Errorf("report %+v, want both endpoints and one problem", report)
	}
}

// TestNoOneElsesLinks: a second instance with a state of its own removes nothing of the first one's, and no links that
// only look like weave's.
func TestNoOneElsesLinks(t *testing.T) {
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

// TestReconcileRemovesStrays: links of this state that no record names go, whatever they are.
func TestReconcileRemovesStrays(t *testing.T) {
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

// TestLostRecordsOfEndpoints: containers keep what they have, and weave takes it up again.
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
	if err := r.Adopt(t.Context(), newNetwork(netID), []AdoptedEndpoint{adopted(used, mac, ep.Addresses, sandbox.Path())}); err != nil {
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

// TestAdopt: a plugin that was installed anew takes up what Docker says is its own, and the container notices nothing.
func TestAdopt(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	old := newRig(t)
	old.createNetwork(newNetwork(netID))
	id, mac := old.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	old.attach(id, sandbox, "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := old.tracked.endpoint(id); return ep.State() == Up })
	ep, _ := old.tracked.endpoint(id)
	index := mustLink(t, ep.HostEnd).Attrs().Index

	anew := newRig(t)
	gone := adopted(endpointID(2), mac, nil, sandbox.Path())
	for range 2 {
		err := anew.Adopt(t.Context(), newNetwork(netID), []AdoptedEndpoint{adopted(id, mac, ep.Addresses, sandbox.Path()), gone})
		if err != nil {
			t.Fatal(err)
		}
	}
	got, ok := anew.tracked.endpoint(id)
	if !ok || got.State() != Up || len(anew.Endpoints()) != 1 {
		t.Errorf("adopted %+v of %d, want one that is up", got, len(anew.Endpoints()))
	}
	if mustLink(t, ep.HostEnd).Attrs().Index != index {
		t.Error("the host end is another one")
	}
	anew.stop()
	if report := anew.start(); len(report.Problems)+len(report.Removed)+len(report.Repaired) != 0 || report.Endpoints != 1 {
		t.Errorf("after a restart: %+v", report)
	}
}

// TestAdoptAfterDelete: Docker was read before it had an endpoint removed, whose veth pair is still on its way out.
func TestAdoptAfterDelete(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, mac := r.createEndpoint(netID, 1)
	r.removals.kernel.Lock() // so that it stays on its way
	r.delete(id)
	result := make(chan error)
	go func() {
		result <- r.Adopt(t.Context(), newNetwork(netID), []AdoptedEndpoint{adopted(id, mac, nil, "")})
	}()
	r.removals.kernel.Unlock()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if got := r.Endpoints(); len(got) != 0 {
		t.Errorf("endpoints %+v, want none", got)
	}
}

// TestAdoptedByAnother: what another state took over is taken back, by its Docker id.
func TestAdoptedByAnother(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	first := newRig(t)
	first.createNetwork(newNetwork(netID))
	id, mac := first.createEndpoint(netID, 1)
	other := newRig(t)
	if err := other.Adopt(t.Context(), newNetwork(netID), []AdoptedEndpoint{adopted(id, mac, nil, "")}); err != nil {
		t.Fatal(err)
	}
	first.createEndpoint(netID, 2)
	if got := mustLink(t, bridgeName(netID)).Attrs().Alias; got != networkAlias(first.stateID, netID).String() {
		t.Errorf("alias %q, want the first state's", got)
	}
	for _, id := range []EndpointID{id, endpointID(2)} {
		first.delete(id)
	}
	if err := first.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	if left := ownLinks(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAdoptGoesOn past an endpoint that can't be taken up.
func TestAdoptGoesOn(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	old := newRig(t)
	old.createNetwork(newNetwork(netID))
	bad, _ := old.createEndpoint(netID, 1)
	good, macOfGood := old.createEndpoint(netID, 2)
	anew := newRig(t)
	if err := anew.Adopt(t.Context(), newNetwork(netID), []AdoptedEndpoint{adopted(bad, mac.Address{}, nil, ""), adopted(good, macOfGood, nil, "")}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an endpoint with a bad MAC: %v, want ErrInvalid", err)
	}
	if got := anew.Endpoints(); len(got) != 1 || got[0].ID != good {
		t.Errorf("adopted %+v, want the other one", got)
	}
}

// TestNamedBridgeOfSomebodyElse: after a reboot the host's own configuration made the bridge that weave had made before.
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

// TestRepeatAfterTheDefaultChanged: Swarm repeats a request that leaves the MTU open.
func TestRepeatAfterTheDefaultChanged(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	r.mtu = 1400
	r.createNetwork(newNetwork(netID))
}
