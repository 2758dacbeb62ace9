// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

const docs = "../../docs/monitoring"

// families returns all metrics by name, each with a value.
func families(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	f := &fake{}
	f.addNetwork("n", 1)
	f.pools = []ipam.Pool{{}}
	m := New("", "")
	m.Measure(f.sources())
	m.Call("NetworkDriver.Join", time.Second, nil)
	m.Event(api.Event{Type: api.DriftEvent, Action: api.ActionFound})
	m.Reconciled(driver.Report{})
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range all {
		byName[f.GetName()] = f
	}
	return byName
}

// queries returns the alerts' and the dashboard's.
func queries(t *testing.T) (all []string) {
	t.Helper()
	read := func(name string, unmarshal func([]byte, any) error, to any) {
		t.Helper()
		b, err := os.ReadFile(docs + "/" + name)
		if err == nil {
			err = unmarshal(b, to)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var alerts struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	read("weave-alerts.yml", yaml.Unmarshal, &alerts)
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			all = append(all, r.Expr)
		}
	}
	var dashboard struct {
		Panels     []struct{ Targets []struct{ Expr string } }
		Templating struct{ List []struct{ Definition string } }
	}
	read("weave-dashboard.json", json.Unmarshal, &dashboard)
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Definition != "" {
			all = append(all, v.Definition)
		}
	}
	return all
}

var (
	// metricForm finds what may be a metric in a query: its name, and what its labels have to be.
	metricForm = regexp.MustCompile(`\b((?:weave|go|process)_\w+|up\b)(?:\{([^}]*)\})?`)
	labelForm  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
)

// TestQueries: each query is about metrics that there are, with labels that they have. It takes queries apart by their
// words alone; promtool, where it is installed, checks their syntax.
func TestQueries(t *testing.T) {
	all := families(t)
	found := queries(t)
	if len(found) < 20 {
		t.Errorf("%d queries", len(found))
	}
	for _, query := range found {
		metrics := metricForm.FindAllStringSubmatch(query, -1)
		if len(metrics) == 0 {
			t.Errorf("%s: no metric", query)
		}
		for _, m := range metrics {
			if m[1] == "up" { // of Prometheus itself
				continue
			}
			name, labels := m[1], []string{"instance", "job"}
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				base, isPart := strings.CutSuffix(name, suffix)
				if isPart && all[base].GetType() == dto.MetricType_HISTOGRAM {
					name = base
				}
			}
			family := all[name]
			if family == nil || name == m[1] && family.GetType() == dto.MetricType_HISTOGRAM {
				t.Errorf("%s: there is no metric %s", query, m[1])
				continue
			}
			for _, l := range family.GetMetric()[0].GetLabel() {
				labels = append(labels, l.GetName())
			}
			for _, l := range labelForm.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels, l[1]) {
					t.Errorf("%s: %s has no label %s", query, m[1], l[1])
				}
			}
		}
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		if out, err := exec.Command(promtool, "check", "rules", docs+"/weave-alerts.yml").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// TestDescribed: docs/monitoring.md has every metric of weave's, and no others.
func TestDescribed(t *testing.T) {
	b, err := os.ReadFile(docs + ".md")
	if err != nil {
		t.Fatal(err)
	}
	all := families(t)
	for name := range all {
		if strings.HasPrefix(name, "weave_") && !strings.Contains(string(b), "`"+name+"`") {
			t.Errorf("%s is not described", name)
		}
	}
	for _, m := range regexp.MustCompile("`(weave_\\w+)`").FindAllStringSubmatch(string(b), -1) {
		if all[m[1]] == nil {
			t.Errorf("%s is described, but there is no such metric", m[1])
		}
	}
}
