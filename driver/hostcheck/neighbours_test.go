// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/internal/nstest"
)

func TestNeighbours(t *testing.T) {
	of := func(x neighbourTable) facts {
		x.family, x.limit = unix.AF_INET6, 1000
		return facts{tables: []neighbourTable{x}}
	}
	check(t, ofNeighbours, []judged{
		{"few", of(neighbourTable{entries: 10}), api.CheckOK, "IPv6: 10 of 1000"},
		{"many that don't count", of(neighbourTable{entries: 5000, counted: 10, in: 3}), api.CheckOK,
			"IPv6: 10 of 1000 (gc_thresh3) in 3 network namespaces"},
		{"near", of(neighbourTable{entries: 900, counted: 800, in: 3}), api.CheckWarning, "800 of 1000"},
		{"full", of(neighbourTable{entries: 1000, counted: 1000, in: 3, refused: 7}), api.CheckFailed,
			"it was full 7 times"},
		{"not all were counted", of(neighbourTable{entries: 900, counted: 850, in: 3, uncalled: 2}), api.CheckWarning,
			"2 more were not counted"},
		{"not read", facts{tablesErr: errors.New("no")}, api.CheckUnknown, "no"},
	})
}

// TestReadNeighbourTables: the kernel tells of both tables, in any namespace.
func TestReadNeighbourTables(t *testing.T) {
	nstest.New(t).Do(t, func() error {
		for i := range 40 { // the settings of each link are in the answer, too, which so takes several packets
			if err := nstest.Run(fmt.Sprintf("ip link add br%d type bridge", i)); err != nil {
				return err
			}
		}
		tables, err := readNeighbourTables()
		if err != nil {
			return err
		}
		families := map[int]bool{}
		for _, x := range tables {
			families[x.family] = x.limit > 0
		}
		if len(tables) != 2 || !families[unix.AF_INET] || !families[unix.AF_INET6] {
			t.Errorf("got %+v, want the tables of IPv4 and IPv6 with their limits", tables)
		}
		return nil
	})
}

func FuzzParseNeighbourTable(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, ndtaThresh3, 0, 0, 4, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = parseNeighbourTable(b) })
}
