// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
)

// line identifies a line of the table in the reports of several runs.
type line struct{ question, measured, against string }

// series are the values of a line in several runs.
type series struct {
	unit   string
	values []float64
	ratios []float64 // medians
}

// compare prints the results in the files before-*.json and after-*.json of a directory side by side.
func compare(w io.Writer, dir string) error {
	before, _, err := readReports(filepath.Join(dir, "before-*.json"))
	if err != nil {
		return err
	}
	after, order, err := readReports(filepath.Join(dir, "after-*.json"))
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "QUESTION\tCASE\tBEFORE\tAFTER\tAFTER/BEFORE\tAGAINST\tRATIO BEFORE\tRATIO AFTER\tAFTER/BEFORE")
	for _, l := range order {
		b, a := before[l], after[l]
		if b == nil {
			continue // a question that is new
		}
		vb, va := median(b.values), median(a.values)
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.2f\t%s", l.question, l.measured,
			quantity(vb, b.unit), quantity(va, a.unit), va/vb, l.against)
		if l.against != "" {
			rb, ra := median(b.ratios), median(a.ratios)
			fmt.Fprintf(table, "\t%.2f\t%.2f\t%.2f", rb, ra, ra/rb)
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// readReports reads the reports that match a pattern. It returns the lines also in the order in which they appear.
func readReports(pattern string) (map[line]*series, []line, error) {
	files, err := filepath.Glob(pattern)
	if err == nil && len(files) == 0 {
		err = errors.New("no such file")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", pattern, err)
	}
	found, order := map[line]*series{}, []line(nil)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		var r report
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, x := range r.Results {
			l := line{x.Question, x.Case, x.Against}
			if found[l] == nil {
				found[l] = &series{unit: x.Unit}
				order = append(order, l)
			}
			found[l].values = append(found[l].values, x.Value)
			if x.Ratio != nil {
				found[l].ratios = append(found[l].ratios, x.Ratio.Median)
			}
		}
	}
	return found, order, nil
}

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	const result = `{"question":"q","case":"c","unit":"ms","value":%g,"against":"x","ratio":{"median":%g}}`
	for name, results := range map[string]string{
		"before-0": fmt.Sprintf(result, 2.0, 0.5),
		"before-1": fmt.Sprintf(result, 4.0, 0.7),
		"after-0":  fmt.Sprintf(result, 6.0, 0.9) + `,{"question":"new","case":"c","unit":"ms","value":1}`,
	} {
		report := []byte(`{"results":[` + results + `]}`)
		if err := os.WriteFile(filepath.Join(dir, name+".json"), report, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := compare(&out, dir); err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(out.String(), "\n")
	if got, want := strings.Join(strings.Fields(rows), " "), "q c 3 ms 6 ms 2.00 x 0.60 0.90 1.50"; got != want {
		t.Errorf("rows %q, want %q", got, want)
	}
	if err := compare(&out, t.TempDir()); err == nil {
		t.Error("no error without reports")
	}
}
