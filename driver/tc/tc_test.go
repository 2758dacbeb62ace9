// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// everything is a Port with all programs.
var everything = Port{Tag: true, NoRouterAdvertisements: true, NoDHCPAnswers: true}

func newPrograms(t *testing.T) *Programs {
	t.Helper()
	p := Load(t.Context())
	if err := p.Problem(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newBridge(t *testing.T) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	return link
}

// attached returns the names of the filters of a link, by place.
func attached(t *testing.T, link netlink.Link) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for place, parent := range map[string]uint32{
		"ingress": netlink.HANDLE_MIN_INGRESS, "egress": netlink.HANDLE_MIN_EGRESS,
	} {
		filters, err := netlink.FilterList(link, parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range filters {
			out[place] = append(out[place], f.(*netlink.BpfFilter).Name)
		}
	}
	return out
}

// TestSet: programs are attached once, replaced in place, and removed; they stay when weave gives up its descriptors.
func TestSet(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	p, link := Load(t.Context()), newBridge(t)
	name := p.fullName
	for _, step := range []struct {
		port Port
		want map[string][]string
	}{
		{everything, map[string][]string{"ingress": {name("tag,no-ra,no-dhcp")}, "egress": {name("pop")}}},
		{everything, map[string][]string{"ingress": {name("tag,no-ra,no-dhcp")}, "egress": {name("pop")}}},
		{Port{Tag: true}, map[string][]string{"ingress": {name("tag")}, "egress": {name("pop")}}},
		{Port{NoRouterAdvertisements: true}, map[string][]string{"ingress": {name("no-ra")}}},
		{Port{}, map[string][]string{}},
		{everything, map[string][]string{"ingress": {name("tag,no-ra,no-dhcp")}, "egress": {name("pop")}}},
	} {
		if err := p.SetPort(link, step.port); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, attached(t, link)); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", step.port, diff)
		}
		for _, port := range []Port{{}, {Tag: true}, {NoRouterAdvertisements: true}, everything} {
			if has, err := p.HasPort(link, port); err != nil || has != (port == step.port) {
				t.Errorf("%+v: HasPort(%+v) is %v, %v", step.port, port, has, err)
			}
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := attached(t, link); len(got) != 2 {
		t.Errorf("without their descriptors: %v", got)
	}
	again := newPrograms(t)
	if has, err := again.HasPort(link, everything); err != nil || !has {
		t.Errorf("the next weave does not know the programs: %v, %v", has, err)
	}
}

func TestSetBridge(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	p, link := newPrograms(t), newBridge(t)
	for _, want := range []bool{false, true} {
		if has, err := p.HasBridge(link); err != nil || has != want {
			t.Errorf("HasBridge is %v, %v, want %v", has, err, want)
		}
		if err := p.SetBridge(link); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFiltersOfOthers: other programs at the same place stay, and weave's are found beside them.
func TestFiltersOfOthers(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	p, link := newPrograms(t), newBridge(t)
	if err := p.SetPort(link, Port{Tag: true}); err != nil {
		t.Fatal(err)
	}
	other := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Fd: int(p.files[popProgram].Fd()), Name: "somebody's", DirectAction: true,
	}
	if err := netlink.FilterAdd(other); err != nil {
		t.Fatal(err)
	}
	if err := p.SetPort(link, everything); err != nil {
		t.Fatal(err)
	}
	got := attached(t, link)["ingress"]
	if want := []string{"somebody's", p.fullName("tag,no-ra,no-dhcp")}; !slices.Equal(got, want) {
		t.Errorf("attached %q, want %q", got, want)
	}
	if err := p.SetPort(link, Port{}); err != nil {
		t.Fatal(err)
	}
	if got := attached(t, link); !slices.Equal(got["ingress"], []string{"somebody's"}) {
		t.Errorf("attached %q after weave's were removed", got)
	}
}

// TestUnsupported: where programs can't be loaded, everything says so.
func TestUnsupported(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, p := range map[string]*Programs{"not loaded": Load(ctx), "nil": nil} {
		link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", Index: 1}}
		_, hasPort := p.HasPort(link, everything)
		_, hasBridge := p.HasBridge(link)
		for method, err := range map[string]error{
			"Problem": p.Problem(), "SetPort": p.SetPort(link, everything), "HasPort": hasPort,
			"SetBridge": p.SetBridge(link), "HasBridge": hasBridge,
		} {
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s: %s: error %v, want ErrUnsupported", name, method, err)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNames: each Port has a program.
func TestNames(t *testing.T) {
	want := []string{
		"drop", "no-dhcp", "no-ra", "no-ra,no-dhcp", "pop", "tag", "tag,no-dhcp", "tag,no-ra", "tag,no-ra,no-dhcp",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(programs()))); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}
