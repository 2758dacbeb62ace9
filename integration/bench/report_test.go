// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// report is the outcome of a run.
type report struct {
	Machine machine  `json:"machine"`
	Results []result `json:"results"`
}

// machine describes the machine of a run.
type machine struct {
	Cores  int      `json:"cores"`
	CPU    string   `json:"cpu,omitempty"`
	Kernel string   `json:"kernel"`
	Go     string   `json:"go"`
	Load   string   `json:"load"`              // average of the last minute of the run
	Docker []string `json:"engines,omitempty"` // versions
}

// result is a line of the table: what was measured and, if there is one, what it is compared with.
type result struct {
	Question string  `json:"question"`
	Case     string  `json:"case"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
	Against  string  `json:"against,omitempty"` // what Other was measured with
	Other    float64 `json:"other,omitempty"`   // in Unit
	Ratio    *spread `json:"ratio,omitempty"`   // of Value to Other in the same round
	Target   *target `json:"target,omitempty"`
	Met      *bool   `json:"met,omitempty"`
}

// target is a limit for the ratio, or for the value if there is no ratio.
type target struct {
	Most  float64 `json:"most,omitempty"`
	Least float64 `json:"least,omitempty"`
}

// atMost and atLeast return targets.
func atMost(x float64) *target  { return &target{Most: x} }
func atLeast(x float64) *target { return &target{Least: x} }

func (t target) met(x float64) bool {
	return (t.Most == 0 || x <= t.Most) && x >= t.Least
}

func (t target) String() string {
	if t.Most != 0 {
		return fmt.Sprintf("≤ %g", t.Most)
	}
	return fmt.Sprintf("≥ %g", t.Least)
}

// add adds a result, after it has set whether the target is met.
func (r *report) add(b *testing.B, x result) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // removes the time of the whole benchmark, which means nothing
	if x.Target != nil {
		decisive := x.Value
		if x.Ratio != nil {
			decisive = x.Ratio.Median
		}
		met := x.Target.met(decisive)
		x.Met = &met
	}
	r.Results = append(r.Results, x)
}

// compared completes a result with two samples that were taken alternately.
func compared(x result, value, other []float64) result {
	ratio := spreadOf(ratios(value, other))
	x.Value, x.Other, x.Ratio = median(value), median(other), &ratio
	return x
}

// publish prints the table and writes the results to the file if its name is not empty.
func (r *report) publish(w io.Writer, file string) error {
	if len(r.Results) == 0 {
		return nil
	}
	r.Machine.describe()
	if file != "" {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	_, err := w.Write(r.table())
	return err
}

func (r *report) table() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\n%s\n\n", r.Machine)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "QUESTION\tCASE\tHERE\tAGAINST\tRATIO (QUARTILES)\tTARGET\tMET")
	for _, x := range r.Results {
		against, ratio, target, met := "", "", "", ""
		if x.Ratio != nil {
			against = fmt.Sprintf("%s %s", x.Against, quantity(x.Other, x.Unit))
			ratio = x.Ratio.String()
		}
		if x.Target != nil {
			target, met = x.Target.String(), "no"
			if x.Ratio == nil {
				target += " " + x.Unit
			}
			if *x.Met {
				met = "yes"
			}
		}
		cells := []string{x.Question, x.Case, quantity(x.Value, x.Unit), against, ratio, target, met}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // into memory
	return b.Bytes()
}

// quantity formats a value with three digits, or with all digits before the point if these are more.
func quantity(x float64, unit string) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f %s", x, unit)
	}
	return fmt.Sprintf("%.3g %s", x, unit)
}

// describe sets the fields that are the same for all results.
func (m *machine) describe() {
	m.Cores, m.Go = runtime.NumCPU(), runtime.Version()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(b), " ")
	}
	if b, err := exec.Command("sed", "-n", "s/^model name.*: //p;T;q", "/proc/cpuinfo").Output(); err == nil {
		m.CPU, _, _ = strings.Cut(string(b), "\n")
	}
}

// addDocker adds a version of Docker.
func (m *machine) addDocker(version string) {
	if !slices.Contains(m.Docker, version) {
		m.Docker = append(m.Docker, version)
	}
}

func (m machine) String() string {
	s := fmt.Sprintf("%d cores (%s), Linux %s, %s, load %s", m.Cores, m.CPU, m.Kernel, m.Go, m.Load)
	if len(m.Docker) > 0 {
		s += ", Docker " + strings.Join(m.Docker, ", ")
	}
	return s
}
