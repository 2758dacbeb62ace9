package driver

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestFailedAdoptionKeepsTraffic makes each step of an adoption fail in turn and starts weave again: the containers keep
// their bridge and their host ends, and the adoption succeeds when it is repeated.
func TestFailedAdoptionKeepsTraffic(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	old := newRig(t)
	old.createNetwork(newNetwork(netID))
	id, mac := old.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	old.attach(id, sandbox, "eth0")
	old.stop()
	ep, _ := old.tracked.endpoint(id)
	bridge, hostEnd := mustLink(t, bridgeName(netID)), mustLink(t, ep.HostEnd)

	request := []AdoptedEndpoint{adopted(id, mac, ep.Addresses, sandbox.Path())}
	for n := 1; ; n++ {
		r := newRig(t)                 // another state each time
		spec := withMTU(netID, 1400+n) // so that the bridge is changed after it has got this state's alias
		ctx, f := r.failAt(n)
		err := r.Adopt(ctx, spec, request)
		if !f.end() {
			if n < 4 || err != nil {
				t.Fatalf("%d steps, %v, want more and no error", n-1, err)
			}
			return
		}
		if err == nil {
			t.Errorf("no error though step %d fails: %s", n, f.name)
		}
		r.stop()
		if report := r.start(); len(report.Removed) != 0 {
			t.Errorf("%s failed, then at the next start: %+v, want nothing removed", f.name, report)
		}
		if err := r.Adopt(t.Context(), spec, request); err != nil {
			t.Errorf("%s failed, then repeated: %v", f.name, err)
		}
		for _, before := range []netlink.Link{bridge, hostEnd} {
			now := mustLink(t, before.Attrs().Name)
			if now.Attrs().Index != before.Attrs().Index || now.Attrs().MasterIndex != before.Attrs().MasterIndex {
				t.Fatalf("%s failed: %s was %+v and is %+v", f.name, now.Attrs().Name, before.Attrs(), now.Attrs())
			}
		}
		checkProblems(t, r)
		r.stop()
	}
}
