// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
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
	name := fullName
	var have Attached
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
		if err := p.Set(link, have, AtPort(step.port)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, attached(t, link)); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", step.port, diff)
		}
		var err error
		if have, err = Look(link); err != nil || have != AtPort(step.port) {
			t.Errorf("%+v: looks as %+v, %v", step.port, have, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := attached(t, link); len(got) != 2 {
		t.Errorf("without their descriptors: %v", got)
	}
}

// TestFiltersOfOthers: other programs at the same place stay, and weave's are found beside them.
func TestFiltersOfOthers(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	p, link := newPrograms(t), newBridge(t)
	if err := p.Set(link, Attached{}, AtPort(Port{Tag: true})); err != nil {
		t.Fatal(err)
	}
	other := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Fd: int(p.files[fullName(popProgram)].Fd()), Name: "somebody's", DirectAction: true,
	}
	if err := netlink.FilterAdd(other); err != nil {
		t.Fatal(err)
	}
	if err := p.Set(link, AtPort(Port{Tag: true}), AtPort(everything)); err != nil {
		t.Fatal(err)
	}
	got := attached(t, link)["ingress"]
	if want := []string{"somebody's", fullName("tag,no-ra,no-dhcp")}; !slices.Equal(got, want) {
		t.Errorf("attached %q, want %q", got, want)
	}
	if err := p.Set(link, AtPort(everything), Attached{}); err != nil {
		t.Fatal(err)
	}
	if got := attached(t, link); !slices.Equal(got["ingress"], []string{"somebody's"}) {
		t.Errorf("attached %q after weave's were removed", got)
	}
}

// TestQdiscOfOthers: on a link that has the older qdisc ingress there are no programs, and the others stay usable.
func TestQdiscOfOthers(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	p, link := newPrograms(t), newBridge(t)
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_INGRESS, Handle: netlink.MakeHandle(0xffff, 0),
	}}
	if err := netlink.QdiscAdd(ingress); err != nil {
		t.Fatal(err)
	}
	err := p.Set(link, Attached{}, AtPort(everything))
	if err == nil || errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "tc qdisc del dev br0 ingress") {
		t.Errorf("error %v, want what to do", err)
	}
	if err := p.Problem(); err != nil {
		t.Error(err)
	}
	if err := netlink.QdiscDel(ingress); err != nil {
		t.Fatal(err)
	}
	if err := p.Set(link, Attached{}, AtPort(everything)); err != nil {
		t.Error(err)
	}
}

// TestUnsupported: where programs can't be loaded, everything says so.
func TestUnsupported(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, p := range map[string]*Programs{"not loaded": Load(ctx), "nil": nil} {
		link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", Index: 1}}
		for method, err := range map[string]error{
			"Problem": p.Problem(), "Set": p.Set(link, Attached{}, AtBridge()),
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
