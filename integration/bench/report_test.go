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

// report is what a run found.
type report struct {
	Machine machine  `json:"machine"`
	Results []result `json:"results"`
}

// machine is what the results hold for.
type machine struct {
	Cores  int      `json:"cores"`
	CPU    string   `json:"cpu,omitempty"`
	Kernel string   `json:"kernel"`
	Go     string   `json:"go"`
	Load   string   `json:"load"` // of the last minute, when the run ended
	Engine []string `json:"engines,omitempty"`
}

// result is one line of the table: what was measured and, where there is something to compare with, what that took.
type result struct {
	Question string  `json:"question"`
	Case     string  `json:"case"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
	Against  string  `json:"against,omitempty"` // what Other is measured of
	Other    float64 `json:"other,omitempty"`   // in Unit
	Ratio    *spread `json:"ratio,omitempty"`   // Value to Other, within the same turn
	Target   *target `json:"target,omitempty"`
	Met      *bool   `json:"met,omitempty"`
}

// target is what the ratio should be, or the value if there is nothing to compare with.
type target struct {
	Most  float64 `json:"most,omitempty"`
	Least float64 `json:"least,omitempty"`
}

// atMost and atLeast make targets.
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

// add adds a result and says whether its target is met.
func (r *report) add(b *testing.B, x result) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // the time of the whole benchmark says nothing
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

// compared makes the result of two samples that were taken in turns.
func compared(x result, value, other []float64) result {
	ratio := spreadOf(ratios(value, other))
	x.Value, x.Other, x.Ratio = median(value), median(other), &ratio
	return x
}

// publish prints the table and writes the results to the file, unless its name is empty.
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
		fmt.Fprintln(w, strings.Join([]string{x.Question, x.Case, quantity(x.Value, x.Unit), against, ratio, target, met}, "\t"))
	}
	_ = w.Flush() // into memory
	return b.Bytes()
}

// quantity shows three digits, more only before the point.
func quantity(x float64, unit string) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f %s", x, unit)
	}
	return fmt.Sprintf("%.3g %s", x, unit)
}

// describe fills in what is the same for the whole run.
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

// addEngine notes an engine's version.
func (m *machine) addEngine(version string) {
	if !slices.Contains(m.Engine, version) {
		m.Engine = append(m.Engine, version)
	}
}

func (m machine) String() string {
	s := fmt.Sprintf("%d cores (%s), Linux %s, %s, load %s", m.Cores, m.CPU, m.Kernel, m.Go, m.Load)
	if len(m.Engine) > 0 {
		s += ", Docker " + strings.Join(m.Engine, ", ")
	}
	return s
}
