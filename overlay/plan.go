// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// tables is what is in the kernel for a network.
type tables struct {
	own     Entries         // weave's
	foreign map[Entry]Entry // what somebody else has entered, by key
}

// sortOut says which of the rows are weave's. Those of Flood may have lost their mark, so such a row is weave's also if
// it is wanted now or was weave's before. What was before is not known at the first look after weave's start (before is
// nil), and all of them are weave's then: frames must not go to a host for ever that has left meanwhile. Those of Port
// have no mark before Linux 4.20. What the kernel has learned is in neither: an entry of weave's replaces it.
func sortOut(rows []row, want, before Entries) tables {
	t := tables{Entries{}, map[Entry]Entry{}}
	for _, r := range rows {
		known := r.Table == Flood && before == nil ||
			(r.Table == Flood || r.Table == Port) && (want.has(r.Entry) || before.has(r.Entry))
		switch {
		case !r.fixed:
		case r.usable && (r.marked || known):
			t.own.add(r.Entry)
		case !r.usable:
			t.foreign[r.key()] = Entry{} // whatever it says, it is not what weave would say
		default:
			t.foreign[r.key()] = r.Entry
		}
	}
	return t
}

// plan returns what has to be changed in the kernel, in order: first what is new or another now, then what has to go.
// So nothing is taken away before it is replaced. Where somebody else's row is in the way it stays, and conflicts
// tells.
func plan(want Entries, have tables) (changes []change, conflicts []string) {
	replaced := Entries{}
	for e := range want {
		if have.own.has(e) {
			continue
		}
		if foreign, ok := have.foreign[e.key()]; ok {
			if foreign != e {
				conflicts = append(conflicts, fmt.Sprintf("%s: somebody else's entry is in the way", e))
			}
			continue
		}
		replaced.add(e.key())
		changes = append(changes, change{Entry: e})
	}
	for e := range have.own {
		if !want.has(e) && !replaced.has(e.key()) {
			changes = append(changes, change{Entry: e, remove: true})
		}
	}
	slices.SortFunc(changes, compareChanges)
	slices.Sort(conflicts)
	return changes, conflicts
}

func compareChanges(a, b change) int {
	switch {
	case a.remove && !b.remove:
		return 1
	case b.remove && !a.remove:
		return -1
	}
	byTable := cmp.Compare(a.Table, b.Table)
	if a.remove {
		byTable = -byTable
	}
	return cmp.Or(byTable, bytes.Compare(a.MAC[:], b.MAC[:]), a.Address.Compare(b.Address))
}
