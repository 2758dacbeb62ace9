// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// examine examines an endpoint from the rig's host.
func (r *rig) examine(e driver.Endpoint) (x Examination) {
	r.t.Helper()
	r.onHost(func() error {
		x = r.Examine(r.t.Context(), e)
		return nil
	})
	return x
}

// TestExamine: both ends, what the bridge knows, and what is in the sandbox.
func TestExamine(t *testing.T) {
	r := newRig(t, nstest.Nsproc(t))
	r.inSandbox(func() error {
		l, err := net.Listen("tcp4", "10.40.0.2:80")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	r.run("ip link set wv-test up")
	r.run("ip link set wve-test up")
	r.run("bridge fdb add 02:00:00:00:00:63 dev wve-test master static")
	r.run("bridge fdb replace " + r.endpoint.MAC.String() + " dev wve-test master static")
	x := r.examine(r.endpoint)
	if x.Port != "wve-test" {
		t.Errorf("the bridge sends to %q, want the host end", x.Port)
	}
	if x.Err != nil || x.Host == nil || x.Inside == nil || x.Bridge != "wv-test" || x.Source != api.Nsproc ||
		len(x.Problems) > 0 {
		t.Fatalf("got %+v", x)
	}
	if x.Host.Counters == nil || x.Inside.Counters == nil {
		t.Errorf("counters %v and %v, want both", x.Host.Counters, x.Inside.Counters)
	}
	if !slices.ContainsFunc(x.Stations, func(s Station) bool { return s.MAC.String() == "02:00:00:00:00:63" }) {
		t.Errorf("stations %v, want that which was added", x.Stations)
	}
	subnet := netip.MustParsePrefix("10.40.0.0/16")
	if !slices.ContainsFunc(x.Sandbox.Routes, func(r netstate.Route) bool { return r.Destination == subnet }) {
		t.Errorf("routes %v, want that to %s", x.Sandbox.Routes, subnet)
	}
	if len(x.Sandbox.Rules) < 3 {
		t.Errorf("rules %v, want the kernel's three", x.Sandbox.Rules)
	}
	server := netip.MustParseAddrPort("10.40.0.2:80")
	if x.Sandbox.HasSockets && !slices.ContainsFunc(x.Sandbox.Sockets, func(s netstate.Socket) bool {
		return s.Local == server
	}) {
		t.Errorf("sockets %v, want that at %s", x.Sandbox.Sockets, server)
	}
}

// TestExamineWhatIsThere: of an endpoint that lacks its sandbox or its host end there is the rest.
func TestExamineWhatIsThere(t *testing.T) {
	r := newRig(t, nstest.Nsproc(t))
	created := r.endpoint
	created.Sandbox = ""
	if x := r.examine(created); x.Host == nil || x.Sandbox != nil || x.Err != nil {
		t.Errorf("without a sandbox: %+v", x)
	}
	gone := r.endpoint
	gone.Sandbox = "/nowhere/at/all"
	if x := r.examine(gone); x.Host == nil || x.Sandbox != nil || x.Err == nil {
		t.Errorf("with a sandbox that is gone: %+v", x)
	}
	r.onHost(func() error {
		link, err := netlink.LinkByName("wve-test")
		return errors.Join(err, netlink.LinkDel(link))
	})
	if x := r.examine(r.endpoint); x.Host != nil || x.Inside != nil || x.Sandbox == nil || x.Err != nil {
		t.Errorf("without its host end: %+v", x)
	}
}

// TestAdvice: there is something to do about each kind of drift.
func TestAdvice(t *testing.T) {
	for _, kind := range []api.DriftKind{
		api.HostEndMissing, api.HostEndDown, api.HostEndBlocked, api.BridgeDown, api.WrongBridge, api.SandboxUnreadable,
		api.ContainerEndMissing, api.ContainerEndDown, api.MACChanged, api.AddressMissing, api.AddressUnexpected,
		api.NotObserved,
	} {
		if Advice(kind) == "" {
			t.Errorf("%s: no advice", kind)
		}
	}
}
