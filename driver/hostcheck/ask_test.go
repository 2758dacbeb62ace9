// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// TestAsk: on a bridge with three stations, of which two have an address of both families, the second one is told of.
func TestAsk(t *testing.T) {
	host := nstest.New(t)
	host.Do(t, func() error {
		return nstest.Run("ip link add br0 type bridge", "ip link set br0 up")
	})
	var members []member
	var spaces []*nstest.NS
	for i, name := range []string{"ada", "bob", "eve"} {
		inside := nstest.New(t)
		spaces = append(spaces, inside)
		addresses := []string{fmt.Sprintf("10.32.0.%d/24", i+2), fmt.Sprintf("fd00::%d/64", i+2)}
		if name == "eve" {
			addresses = append(addresses, "10.32.0.3/24", "fd00::3/64") // bob's
		}
		inside.Do(t, func() error { return nstest.Run("sysctl -qw net.ipv6.conf.default.accept_dad=0") })
		_, address := nstest.Veth(t, host, inside, "wve-"+name, addresses...)
		host.Do(t, func() error { return nstest.Run("ip link set wve-" + name + " master br0 up") })
		ep := driver.Endpoint{ID: driver.EndpointID(name), MAC: address, Sandbox: "/s"}
		for _, a := range addresses[:2] {
			ep.Addresses = append(ep.Addresses, netip.MustParsePrefix(a))
		}
		members = append(members, member{endpoint{Endpoint: ep, name: name}, inspect.Observation{}})
	}
	nw := driver.Network{}
	holders := holdersOf(nw, members, mac.Address{})
	const answersOfAll = 6 // bob's and eve's for both families, and eve's for bob
	var heard claims
	spaces[0].Do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		deadline := time.Now().Add(30 * time.Second)
		for len(heard) < answersOfAll && time.Now().Before(deadline) { // the links may not have their carriers yet
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			heard, err = askBy(t.Context(), fd, netstate.Link{
				Index: link.Attrs().Index, MAC: members[0].MAC, Addresses: members[0].Addresses,
			}, holders)
			if err != nil {
				return err
			}
		}
		return nil
	})
	want := []answer{
		{netip.MustParseAddr("10.32.0.3"), "bob", members[2].MAC.String(), "which is eve"},
		{netip.MustParseAddr("fd00::3"), "bob", members[2].MAC.String(), "which is eve"},
	}
	got := strangers(heard, holders, members)
	comparable := cmp.Options{cmp.AllowUnexported(answer{}), cmpopts.EquateComparable(netip.Addr{})}
	if diff := cmp.Diff(want, got, comparable); diff != "" {
		t.Errorf("of the answers %v (-want +got):\n%s", heard, diff)
	}
	if len(heard) < answersOfAll {
		t.Errorf("%d answers, want %d: %v", len(heard), answersOfAll, heard)
	}
}

// TestStrangers: whoever weave does not know is told of, and who has changed its MAC is none.
func TestStrangers(t *testing.T) {
	subnet := netip.MustParsePrefix("10.32.0.2/24")
	a, own, changed, stranger := subnet.Addr(), mac.Address{2, 1}, mac.Address{2, 2}, mac.Address{2, 3}
	ep := driver.Endpoint{MAC: own, Sandbox: "/s", Addresses: []netip.Prefix{subnet}}
	members := []member{{
		endpoint{Endpoint: ep, name: "web"}, inspect.Observation{Inside: &netstate.Link{MAC: changed}},
	}}
	holders := holdersOf(driver.Network{}, members, mac.Address{})
	got := strangers(claims{{a, own}: true, {a, changed}: true, {a, stranger}: true}, holders, members)
	if len(got) != 1 || got[0].mac != stranger.String() || got[0].who != "whom weave does not know" {
		t.Errorf("got %+v, want the stranger alone", got)
	}
	asker := claims{}
	asker.addOwn(netstate.Link{MAC: stranger, Addresses: []netip.Prefix{subnet}})
	if got := strangers(asker, holders, members); len(got) != 1 || got[0].address != a {
		t.Errorf("the asker has somebody else's address: got %+v, want that", got)
	}
	if _, err := askBy(t.Context(), -1, netstate.Link{}, nil); err == nil || errors.Is(err, unix.EPERM) {
		t.Errorf("a bad socket: %v", err)
	}
}
