// SPDX-License-Identifier: Apache-2.0

// Package metrics counts what weave does, and tells Prometheus of it and of the networks.
//
// It runs in the host's network namespace and looks into no other one. What it reads is there already, but for one
// listing of the host's links for each scrape.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
)

// Metrics are all of weave's. Several goroutines may use them.
type Metrics struct {
	registry  *prometheus.Registry
	started   time.Time
	calls     *prometheus.HistogramVec
	nsprocs   *prometheus.HistogramVec
	events    *prometheus.CounterVec
	drift     *prometheus.CounterVec
	repairs   prometheus.Counter
	reconcile reconcile
}

// reconcile is what weave has done when it started.
type reconcile struct {
	took prometheus.Gauge
	done *prometheus.GaugeVec
}

// The values of the label result.
const (
	success = "success"
	failure = "failure"
)

// New returns Metrics of a weave of this version and commit, which are at zero.
func New(version, commit string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		started:  time.Now(),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "weave_docker_call_duration_seconds",
			Help:    "How long weave took to answer Docker's calls, by the call and its result, success or failure.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"call", "result"}),
		nsprocs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "weave_nsproc_duration_seconds",
			Help:    "How long processes in containers' namespaces ran, by their result, success or failure.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}, []string{"result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weave_events_total",
			Help: "What has happened, as weave events has it, by the type and the action of the event.",
		}, []string{"type", "action"}),
		drift: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weave_drift_total",
			Help: "Drift that was found, and that is gone, by its kind; host: a link on the host was changed.",
		}, []string{"kind", "action"}),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weave_repairs_total",
			Help: "How often weave has put right, while it ran, what another program had changed.",
		}),
		reconcile: reconcile{
			took: prometheus.NewGauge(prometheus.GaugeOpts{
				Name: "weave_reconcile_duration_seconds",
				Help: "How long weave took to bring the kernel in line with its state when it started.",
			}),
			done: prometheus.NewGaugeVec(prometheus.GaugeOpts{
				Name: "weave_reconcile_results",
				Help: "What weave has found then and repaired or removed, or could not put right: problem.",
			}, []string{"result"}),
		},
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "weave_build_info",
		Help: "What this weave was built from; always 1.",
		ConstLabels: prometheus.Labels{
			"version": version, "revision": commit, "goversion": runtime.Version(), "goarch": runtime.GOARCH,
		},
	})
	build.Set(1)
	m.registry.MustRegister(
		build, m.calls, m.nsprocs, m.events, m.drift, m.repairs, m.reconcile.took, m.reconcile.done,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	// What there are alerts for is there from the start, since an increase is seen only from a value on.
	m.nsprocs.WithLabelValues(success)
	m.nsprocs.WithLabelValues(failure)
	m.events.WithLabelValues(string(api.DriftEvent), string(api.ActionFound))
	m.events.WithLabelValues(string(api.RepairEvent), string(api.ActionDone))
	m.events.WithLabelValues(string(api.ErrorEvent), string(api.ActionFailed))
	return m
}

// Call counts a call of Docker's by its name, one of those that weave answers: how long it took, and its error.
func (m *Metrics) Call(name string, took time.Duration, err error) {
	observe(m.calls.MustCurryWith(prometheus.Labels{"call": name}), took, err)
}

// Nsproc counts an nsproc: how long it took, and its error.
func (m *Metrics) Nsproc(took time.Duration, err error) { observe(m.nsprocs, took, err) }

// observe adds a duration to that of the results which err is, and makes both.
func observe(of prometheus.ObserverVec, took time.Duration, err error) {
	succeeded, failed := of.WithLabelValues(success), of.WithLabelValues(failure)
	if err != nil {
		succeeded = failed
	}
	succeeded.Observe(took.Seconds())
}

// Event counts an event.
func (m *Metrics) Event(e api.Event) {
	m.events.WithLabelValues(string(e.Type), string(e.Action)).Inc()
	switch {
	case e.Type == api.DriftEvent:
		kind := string(e.Drift)
		if kind == "" {
			kind = "host"
		}
		m.drift.WithLabelValues(kind, string(e.Action)).Inc()
	case e.Type == api.RepairEvent && (e.Cause == nil || e.Cause.Kind != api.CauseStart):
		m.repairs.Inc()
	}
}

// Reconciled tells what weave has done when it started.
func (m *Metrics) Reconciled(r driver.Report) {
	m.reconcile.took.Set(r.Took.Seconds())
	for result, n := range map[string]int{
		"repaired": len(r.Repaired), "removed": len(r.Removed), "problem": len(r.Problems),
	} {
		m.reconcile.done.WithLabelValues(result).Set(float64(n))
	}
}

// maxScrapes is how many scrapes there are at a time; further ones are refused.
const maxScrapes = 4

// Handler returns what answers scrapes. What can't be told it leaves out, with an error in the log.
func (m *Metrics) Handler(log *logrus.Entry) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: log, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
	})
}
