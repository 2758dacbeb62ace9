// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/netnsid"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

var (
	sources         = []api.Source{api.Kernel, api.Nsproc}
	comparePrefixes = cmpopts.EquateComparable(netip.Prefix{})
	uncounted       = cmpopts.IgnoreFields(netstate.Link{}, "Counters") // which change all the time
)

// TestObserve: the kernel from the host and nsproc from inside see the same.
func TestObserve(t *testing.T) {
	r := newRig(t, nstest.Nsproc(t))
	observations := map[api.Source]Observation{}
	for _, source := range sources {
		o := r.observe(source)
		if o.Source != source || o.Err != nil || o.Bridge != "wv-test" || o.Host == nil || o.Inside == nil {
			t.Fatalf("by %s: %+v", source, o)
		}
		if in := o.Inside; in.Name != "eth0" || in.MAC != r.endpoint.MAC || !in.Up || in.MTU != 1500 {
			t.Errorf("by %s: container end %+v", source, in)
		}
		for _, a := range r.endpoint.Addresses {
			if !slices.Contains(o.Inside.Addresses, a) {
				t.Errorf("by %s: addresses %v, want %v among them", source, o.Inside.Addresses, a)
			}
		}
		o.Source = ""
		o.Inside.Addresses = slices.DeleteFunc(o.Inside.Addresses, func(a netip.Prefix) bool {
			return a.Addr().IsLinkLocalUnicast() // the kernel may still be adding one
		})
		observations[source] = o
	}
	if diff := cmp.Diff(observations[api.Kernel], observations[api.Nsproc], comparePrefixes, uncounted); diff != "" {
		t.Errorf("kernel and nsproc differ (-kernel +nsproc)\n%s", diff)
	}
}

// TestSeveralEndpoints: a sandbox is looked into once, each of its endpoints gets its own container end, and an
// endpoint without a sandbox is looked at from the host only.
func TestSeveralEndpoints(t *testing.T) {
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho >>%s/runs; exec %s\n", dir, nstest.Nsproc(t))
	path := filepath.Join(dir, "nsproc")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, path)
	r.inSandbox(func() error {
		return with("eth0", func(l netlink.Link) error {
			return errors.Join(netlink.LinkSetDown(l), netlink.LinkSetName(l, "eth1"), netlink.LinkSetUp(l))
		})
	})
	second := r.attach("eeee20000000", "wve-second", "10.40.0.3/16")
	created := driver.Endpoint{ID: "eeee30000000", Network: r.network.ID, HostEnd: "wve-second"}
	observed := r.observeAll(api.Nsproc, r.endpoint, second, created)
	for id, want := range map[driver.EndpointID]string{r.endpoint.ID: "eth1", second.ID: "eth0"} {
		if in := observed[id].Inside; in == nil || in.Name != want {
			t.Errorf("container end of %s: %+v, want %s", id, in, want)
		}
	}
	if o := observed[created.ID]; o.Host == nil || o.Inside != nil || o.Err != nil {
		t.Errorf("without a sandbox: %+v, want the host end only", o)
	}
	if runs, err := os.ReadFile(filepath.Join(dir, "runs")); err != nil || len(runs) != 1 {
		t.Errorf("nsproc ran %d times (%v), want once", len(runs), err)
	}
}

// TestDriftOfLinks changes the kernel's links in each way that is drift, and has both sources find it.
func TestDriftOfLinks(t *testing.T) {
	nsproc := nstest.Nsproc(t)
	tests := []struct {
		name   string
		change func(*rig)
		want   []api.DriftKind
	}{
		{"none", func(*rig) {}, nil},
		{"host end deleted, and the container end with it", func(r *rig) {
			r.onHost(func() error { return with("wve-test", netlink.LinkDel) })
		}, []api.DriftKind{api.HostEndMissing, api.ContainerEndMissing}},
		{"host end down", func(r *rig) {
			r.onHost(func() error { return with("wve-test", netlink.LinkSetDown) })
		}, []api.DriftKind{api.HostEndDown}},
		{"host end on another bridge", func(r *rig) {
			r.onHost(func() error {
				br0 := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
				return errors.Join(add(br0), setMaster("wve-test", "br0"))
			})
		}, []api.DriftKind{api.WrongBridge}},
		{"host end on no bridge", func(r *rig) {
			r.onHost(func() error { return with("wve-test", netlink.LinkSetNoMaster) })
		}, []api.DriftKind{api.WrongBridge}},
		{"sandbox gone", func(r *rig) {
			r.endpoint.Sandbox = filepath.Join(r.t.TempDir(), "gone")
		}, []api.DriftKind{api.SandboxUnreadable}},
		{"container end moved to another namespace", func(r *rig) {
			other := nstest.New(r.t)
			r.inSandbox(func() error {
				return with("eth0", func(l netlink.Link) error { return netlink.LinkSetNsFd(l, other.FD()) })
			})
		}, []api.DriftKind{api.ContainerEndMissing}},
		{"container end down, which costs it its IPv6 addresses", func(r *rig) {
			r.inSandbox(func() error { return with("eth0", netlink.LinkSetDown) })
		}, []api.DriftKind{api.ContainerEndDown, api.AddressMissing}},
		{"MAC changed", func(r *rig) {
			r.inSandbox(func() error {
				return with("eth0", func(l netlink.Link) error {
					return netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 0x99})
				})
			})
		}, []api.DriftKind{api.MACChanged}},
		{"address deleted", func(r *rig) {
			r.inSandbox(withAddress(netlink.AddrDel, "10.40.0.2/16"))
		}, []api.DriftKind{api.AddressMissing}},
		{"bridge down", func(r *rig) { r.run("ip link set wv-test down") }, []api.DriftKind{api.BridgeDown}},
		{"isolated", func(r *rig) {
			r.run("bridge link set dev wve-test isolated on")
		}, []api.DriftKind{api.HostEndBlocked}},
		{"blocked", func(r *rig) {
			r.run("bridge link set dev wve-test state 1")
		}, []api.DriftKind{api.HostEndBlocked}},
		{"qdisc that drops", func(r *rig) {
			r.run("tc qdisc add dev wve-test root blackhole")
		}, []api.DriftKind{api.HostEndBlocked}},
		{"address that no subnet covers", func(r *rig) {
			r.inSandbox(withAddress(netlink.AddrAdd, "192.0.2.1/24"))
		}, nil},
		{"address added", func(r *rig) {
			r.inSandbox(withAddress(netlink.AddrAdd, "10.40.0.77/16"))
		}, []api.DriftKind{api.AddressUnexpected}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nsproc)
			tt.change(r)
			for _, source := range sources {
				o := r.observe(source)
				drift := Drift(r.network, r.endpoint, o)
				var kinds []api.DriftKind
				for _, d := range drift {
					kinds = append(kinds, d.Kind)
				}
				if o.Source != source || !slices.Equal(kinds, tt.want) {
					t.Errorf("by %s: seen by %s, drift %v, want %v", source, o.Source, drift, tt.want)
				}
			}
		})
	}
}

// TestKernelAnswerIncomplete: what the kernel's answer lacks is missing only if nsproc does not see it either. Here the
// container end is up, but in another namespace than the endpoint's sandbox.
func TestKernelAnswerIncomplete(t *testing.T) {
	r := newRig(t, nstest.Nsproc(t))
	r.endpoint.Sandbox = nstest.New(t).Path()
	if o := r.observe(api.Kernel); o.Source != api.Nsproc || o.Err != nil || o.Inside != nil {
		t.Errorf("%+v, want nsproc to have found nothing", o)
	}
}

// TestKernelRefuses: where the kernel doesn't answer for other namespaces nsproc looks.
func TestKernelRefuses(t *testing.T) {
	r := newRig(t, nstest.Nsproc(t))
	r.onHost(func() error {
		// The kernel checks the capabilities that a socket was opened with. The process gets its own back afterwards.
		before := cap.GetProc()
		without, err := before.Dup()
		if err != nil {
			return err
		}
		if err := errors.Join(without.SetFlag(cap.Effective, false, cap.NET_ADMIN), without.SetProc()); err != nil {
			return err
		}
		var openErr error
		r.kernel, openErr = netnsid.New("")
		return errors.Join(openErr, before.SetProc())
	})
	if o := r.observe(api.Kernel); o.Source != api.Nsproc || o.Err != nil || o.Inside == nil {
		t.Errorf("%+v, want nsproc to have found the container end", o)
	}
	if err := r.kernel.Close(); err != nil {
		t.Error(err)
	}
}

// TestContextEnds: nothing waits longer than its context.
func TestContextEnds(t *testing.T) {
	r := newRig(t, "/bin/false")
	if got := r.Observe(canceled(t), []driver.Endpoint{r.endpoint}, api.Kernel); len(got) != 0 {
		t.Errorf("host's links not read, but observed %+v", got)
	}
	if _, err := singleLinks(canceled(t), []driver.Endpoint{r.endpoint}); err == nil {
		t.Error("links read one by one: no error")
	}
	if err := r.nsprocs.Acquire(t.Context(), int64(parallel())); err != nil {
		t.Fatal(err)
	}
	in := r.lookWithNsproc(canceled(t), r.endpoint.Sandbox)
	if in.err == nil || !strings.Contains(in.err.Error(), "wait for other listings") {
		t.Errorf("with as many nsprocs as may run: %v, want an error that says so", in.err)
	}
}

// TestSingleLinks: a host whose links change all the time can only be read link by link, which gives the same.
func TestSingleLinks(t *testing.T) {
	r := newRig(t, "/bin/false")
	r.sandbox = nstest.New(t)
	second := r.attach("eeee20000000", "wve-second")
	r.onHost(func() error { return with("wve-second", netlink.LinkSetNoMaster) })
	missing := driver.Endpoint{HostEnd: "wve-missing"}
	r.onHost(func() error {
		endpoints := []driver.Endpoint{r.endpoint, second, missing}
		whole, err := r.readHost(t.Context(), endpoints)
		if err != nil {
			return err
		}
		single, err := singleLinks(t.Context(), endpoints)
		if err != nil {
			return err
		}
		if len(single.byName) != 3 || len(single.byIndex) != 3 {
			t.Errorf("read %v, want the bridge and two host ends", single.byName)
		}
		for name, link := range single.byName {
			untold := cmpopts.IgnoreFields(netstate.Link{}, "Qdisc", "PortState", "Isolated", "Counters") // by itself
			if diff := cmp.Diff(whole.byName[name], link, comparePrefixes, untold); diff != "" {
				t.Errorf("%s (-of all +by itself)\n%s", name, diff)
			}
		}
		return nil
	})
}
