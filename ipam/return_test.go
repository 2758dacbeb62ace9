// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestOwnersGetTheirAddressesAgain: an owner who is known comes back to its address, after a restart of weave too, and
// nobody takes it meanwhile unless there is no other.
func TestOwnersGetTheirAddressesAgain(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/29") // .1 to .6
	for n, owner := range []string{"web", "db", "cache"} {
		f.addressFor(id, owner, fmt.Sprintf("10.9.0.%d/29", n+1))
	}
	for _, address := range []string{"10.9.0.1", "10.9.0.3", "10.9.0.2"} {
		f.release(id, address)
	}
	f.addressFor(id, "new", "10.9.0.4/29")
	f.restart()
	f.addressFor(id, "db", "10.9.0.2/29")
	f.addressFor(id, "cache", "10.9.0.3/29")
	f.addressFor(id, "newer", "10.9.0.5/29")
	f.addressFor(id, "newest", "10.9.0.6/29")
	f.addressFor(id, "excess", "10.9.0.1/29") // there is no other
	f.release(id, "10.9.0.2")
	f.addressFor(id, "web", "10.9.0.2/29")

	f.release(id, "10.9.0.4")
	f.address(id, "10.9.0.4", "10.9.0.4/29") // by name, for somebody else
	f.release(id, "10.9.0.4")
	f.addressFor(id, "new", "10.9.0.4/29")

	f.release(id, "10.9.0.4")
	f.addressFor(id, strings.Repeat("x", maxOwner+1), "10.9.0.4/29") // which is not recorded
	if owner := f.pools[id].alloc.owners[netip.MustParseAddr("10.9.0.4")]; owner != "" {
		t.Errorf("an owner of %d bytes is kept", len(owner))
	}
}

// TestUnknownOwnersComeBack: before version 29 Docker does not say whose address it requests.
func TestUnknownOwnersComeBack(t *testing.T) {
	// A move is "start a", which has to get its first address, "start a=3", which has to get this one, "stop a", or
	// "later": two minutes pass.
	for _, c := range []struct{ name, moves string }{
		{"restart", "start a, start b, stop a, start a"},
		{"restart one after another", "start a, start b, start c, stop a, start a, stop b, start b, stop c, start c"},
		{"start much later", "start a, start b, stop a, later, start a"},
		{"stop and start in order", "start a, start b, start c, stop a, stop b, stop c, start a, start b, start c"},
		{"stop in the reverse order", "start a, start b, start c, stop c, stop b, stop a, start a, start b, start c"},
		{"much later, in order", "start a, start b, stop b, stop a, later, start a, start b"},
		{"restart beside one that was stopped before", "start a, start b, stop a, later, stop b, start b, start a"},
		{"recreate", "start a, start b, stop b, start new=2, stop new, start b"},
		{"somebody new comes first", "start a, start b, stop a, start new=1, start a=3"},
		{"somebody new while all run", "start a, start b, start new=3"},
		{"out of order can't be told", "start a, start b, stop a, stop b, start b=1, start a=2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i, err := loadRecords(t, memoryStore{})
				if err != nil {
					t.Fatal(err)
				}
				p, err := i.RequestPool(t.Context(),
					PoolRequest{Space: LocalSpace, Subnet: netip.MustParsePrefix("10.9.0.0/24")})
				if err != nil {
					t.Fatal(err)
				}
				play(t, i, p.ID, c.moves)
			})
		})
	}
}

func play(t *testing.T, i *IPAM, pool PoolID, moves string) {
	t.Helper()
	addresses := map[string]netip.Addr{} // by container
	for move := range strings.SplitSeq(moves, ", ") {
		verb, container, _ := strings.Cut(move, " ")
		container, last, named := strings.Cut(container, "=")
		switch verb {
		case "later":
			time.Sleep(2 * returnTime)
		case "stop":
			if err := i.ReleaseAddress(t.Context(), pool, addresses[container]); err != nil {
				t.Error(err)
			}
		case "start":
			got, err := i.RequestAddress(t.Context(), pool, netip.Addr{})
			want, known := addresses[container]
			if named {
				want, known = netip.MustParseAddr("10.9.0."+last), true
			}
			if err != nil || known && got.Addr() != want {
				t.Errorf("%s: %s, %v: want %s", move, got, err, want)
			}
			addresses[container] = got.Addr()
		}
	}
}

// TestSwarmTasksGetOtherAddresses: in the global space nobody comes back.
func TestSwarmTasksGetOtherAddresses(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.pool(PoolRequest{Space: GlobalSpace, Subnet: netip.MustParsePrefix("10.9.0.0/29")}).ID
	for n := 1; n <= 6; n++ {
		f.address(id, "", fmt.Sprintf("10.9.0.%d/29", n))
		f.release(id, fmt.Sprintf("10.9.0.%d", n))
	}
	f.address(id, "", "10.9.0.1/29")
}
