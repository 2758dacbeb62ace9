// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestAddressGivenBackAfterJoin: a sysctl of the endpoint removes its IPv6 address, Docker gives it back without a word
// to the driver, and its IPAM hands it to the next endpoint.
func TestAddressGivenBackAfterJoin(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	old, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	r.attach(old, sandbox, "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := r.tracked.endpoint(old); return ep.State() == Up })
	next := newEndpoint(netID, 2)
	next.Addresses[1] = newEndpoint(netID, 1).Addresses[1]
	if _, err := r.CreateEndpoint(t.Context(), next); !errors.Is(err, ErrConflict) {
		t.Fatalf("while the old one has the address: %v, want ErrConflict", err)
	}

	sandbox.Do(t, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0)
	})
	both := newEndpoint(netID, 1)
	both.ID = endpointID(3)
	if _, err := r.CreateEndpoint(t.Context(), both); !errors.Is(err, ErrConflict) {
		t.Errorf("with the address that it still has: %v, want ErrConflict", err)
	}
	if ep, _ := r.tracked.endpoint(old); len(ep.Addresses) != 2 {
		t.Errorf("a request that was refused has left the old endpoint %v", ep.Addresses)
	}
	if _, err := r.CreateEndpoint(t.Context(), next); err != nil {
		t.Fatalf("with the address that it has no more: %v", err)
	}
	want := newEndpoint(netID, 1).Addresses[:1]
	check := func() {
		t.Helper()
		if ep, ok := r.tracked.endpoint(old); !ok || !slices.Equal(ep.Addresses, want) || ep.Sandbox == "" {
			t.Errorf("the old endpoint is %+v, want it to live with %v", ep, want)
		}
	}
	check()
	r.stop()
	r.start()
	check()
}

// TestAddressNotSetYet: Docker has moved the container end into the sandbox and is about to set its addresses.
func TestAddressNotSetYet(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	old, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	if _, err := r.Join(t.Context(), netID, old, sandbox.Path(), NoPorts); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(mustLink(t, containerEndName(old)), sandbox.FD()); err != nil {
		t.Fatal(err)
	}
	next := newEndpoint(netID, 1)
	next.ID = endpointID(2)
	if _, err := r.CreateEndpoint(t.Context(), next); !errors.Is(err, ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
}

// TestAddressThatNobodyCanLookFor: where the kernel does not tell, a living endpoint keeps its addresses.
func TestAddressThatNobodyCanLookFor(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	old, _ := r.createEndpoint(netID, 1)
	sandbox := nstest.New(t)
	r.attach(old, sandbox, "eth0")
	eventually(t, "endpoint up", func() bool { ep, _ := r.tracked.endpoint(old); return ep.State() == Up })
	sandbox.Do(t, func() error {
		link := mustLink(t, "eth0")
		for _, a := range addressesOf(t, link) {
			if err := netlink.AddrDel(link, &a); err != nil {
				return err
			}
		}
		return nil
	})
	next := newEndpoint(netID, 1)
	next.ID = endpointID(2)
	kernel := r.kernel
	r.kernel = nil
	if _, err := r.CreateEndpoint(t.Context(), next); !errors.Is(err, ErrConflict) {
		t.Errorf("without a look: %v, want ErrConflict", err)
	}
	r.kernel = kernel
	elsewhere, _ := r.tracked.endpoint(old)
	elsewhere.Sandbox = nstest.New(t).Path() // in which the container end is not
	if got := r.withoutLost(t.Context(), elsewhere, next.Addresses); len(got.Addresses) != 2 {
		t.Errorf("in another sandbox: %v, want both addresses kept", got.Addresses)
	}
	if _, err := r.CreateEndpoint(t.Context(), next); err != nil {
		t.Errorf("with a look: %v", err)
	}
}
