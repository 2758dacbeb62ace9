// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// failedPairs is the error of a check of all pairs that has found something.
type failedPairs struct {
	failedLayer // of the first one
	pair        api.PairCheck
	summary     api.CheckSummary
}

// Error returns how many pairs fail, and what is wrong with the first one and what to do.
func (f failedPairs) Error() string {
	return fmt.Sprintf("%d of %d pairs fail; %s to %s: %v", f.summary.Failed, f.summary.Checked, f.pair.From, f.pair.To,
		f.failedLayer)
}

// matrix is what a check of all pairs has found.
type matrix struct {
	Pairs   []api.PairCheck  `json:"pairs"`
	Summary api.CheckSummary `json:"summary"`
}

// checkAll checks all pairs on the networks, and prints those that fail.
func checkAll(ctx context.Context, cmd *cobra.Command, networks []string, port uint16, format string) (err error) {
	m := matrix{Pairs: []api.PairCheck{}}
	m.Summary, err = newClient(cmd).CheckAll(ctx, networks, port, func(p api.PairCheck) error {
		m.Pairs = append(m.Pairs, p)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(m.Pairs, func(a, b api.PairCheck) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	if err := m.print(cmd.OutOrStdout(), format); err != nil {
		return err
	}
	for _, p := range m.Pairs {
		if l, ok := failedIn(p.Check); ok {
			return failedPairs{failedLayer{l}, p, m.Summary}
		}
	}
	return nil
}

// failedIn returns the layer that fails; it is not ok if none does.
func failedIn(c api.Check) (l api.Checked, ok bool) {
	i := slices.IndexFunc(c.Layers, func(l api.Checked) bool { return l.Layer == c.Failed })
	if i < 0 {
		return l, false
	}
	return c.Layers[i], true
}

// print prints all pairs as JSON, or those that fail as a table with a count.
func (m matrix) print(w io.Writer, format string) error {
	if format == formatJSON {
		return printJSON(w, m)
	}
	failing := slices.DeleteFunc(slices.Clone(m.Pairs), func(p api.PairCheck) bool { return p.Check.Failed == "" })
	if len(failing) > 0 {
		columns := []column[api.PairCheck]{
			{"NETWORK", func(p api.PairCheck) string { return p.Network }},
			{"FROM", func(p api.PairCheck) string { return p.From }},
			{"TO", func(p api.PairCheck) string { return p.To }},
			{"LAYER", func(p api.PairCheck) string { return string(p.Check.Failed) }},
			{"EVIDENCE", func(p api.PairCheck) string { l, _ := failedIn(p.Check); return l.Evidence }},
		}
		if err := (listing[api.PairCheck]{failing, columns, nil}).print(w, formatTable); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(w, "%d of %d pairs fail\n", m.Summary.Failed, m.Summary.Checked); err != nil {
		return err
	}
	if m.Summary.LeftOut > 0 {
		_, err := fmt.Fprintf(w, "%d more pairs are left out: name one network with --network, or two containers\n",
			m.Summary.LeftOut)
		return err
	}
	return nil
}
