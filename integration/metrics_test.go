// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// metrics are values by name and labels, as Prometheus writes them.
type metrics map[string]float64

func parseMetrics(t *testing.T, text string) metrics {
	t.Helper()
	m := metrics{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if i < 0 || err != nil {
			t.Fatalf("not a metric: %q", line)
		}
		m[line[:i]] = v
	}
	return m
}

// scrape reads the metrics over the API's socket.
func scrape(t *testing.T, h *lab.Host) metrics {
	t.Helper()
	transport := api.UnixTransport(h.Path(lab.APISocket))
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get("http://weave" + api.PathMetrics)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", resp.StatusCode, err, body)
	}
	return parseMetrics(t, string(body))
}

// scrapeTCP reads the metrics at an address of the host's.
func scrapeTCP(t *testing.T, h *lab.Host, address string) metrics {
	t.Helper()
	return parseMetrics(t, h.Exec(t, "curl", "-sS", "--fail", "--max-time", "20", "http://"+address+api.PathMetrics))
}

// exactly fails t if metrics don't have these values.
func (m metrics) exactly(t *testing.T, want metrics) {
	t.Helper()
	for name, v := range want {
		if got, ok := m[name]; !ok || got != v {
			t.Errorf("%s is %v (there: %t), want %v", name, got, ok, v)
		}
	}
}

// TestMetrics: Prometheus reads Docker's calls, endpoints, addresses and traffic, over the API's socket and over TCP,
// where nobody makes reports or captures; and a scrape starts no nsproc.
func TestMetrics(t *testing.T) {
	const address = "127.0.0.1:9784"
	h, plugin := startHost(t, "metrics", "--http-address="+address)
	weaveNetwork(t, h, "app", "--ipam-driver", "weave", "--subnet", "10.60.0.0/24")
	weaveNetwork(t, h, "quiet", "--subnet", "10.61.0.0/24")
	h.Run(t, "--network", "app", "--name", "web")
	h.Run(t, "--network", "app", "--name", "db")
	awaitEndpoints(t, h, 2)
	if _, err := h.DockerErr("network", "create", "-d", "weave", "-o", "works.weave.mtu=1", "bad"); err == nil {
		t.Error("an MTU of 1 is accepted")
	}
	const calls = `weave_docker_call_duration_seconds_count{call="NetworkDriver.`
	before := scrape(t, h)
	before.exactly(t, metrics{
		calls + `CreateNetwork",result="success"}`:               2,
		calls + `CreateNetwork",result="failure"}`:               1,
		calls + `Join",result="success"}`:                        2,
		calls + `Join",result="failure"}`:                        0,
		`weave_networks`:                                         2,
		`weave_endpoints{state="up"}`:                            2,
		`weave_endpoints{state="created"}`:                       0,
		`weave_bridge_ports_used{network="app"}`:                 2,
		`weave_bridge_ports_used{network="quiet"}`:               0,
		`weave_bridge_ports_limit`:                               1023,
		`weave_pool_addresses_used{family="ipv4",network="app"}`: 3, // with the gateway, which Docker requests
		`weave_pool_addresses{family="ipv4",network="app"}`:      254,
		`weave_events_total{action="failed",type="error"}`:       1,
		`weave_events_total{action="joined",type="endpoint"}`:    2,
		`weave_link_listing_failures_total`:                      0,
		`weave_network_transmit_packets_total{network="quiet"}`:  0,
		`weave_reconcile_results{result="problem"}`:              0,
		`weave_nsproc_duration_seconds_count{result="failure"}`:  0,
		`weave_repairs_total`:                                    0,
	})
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if before[name] == 0 {
			t.Errorf("%s is missing", name)
		}
	}

	const packets, bytes = 20, 20 * 1000
	h.Docker(t, "exec", "web", "ping", "-c", strconv.Itoa(packets), "-i", "0.1", "-s", "1000", "-W", "2", "db")
	after := scrapeTCP(t, h, address)
	for _, way := range []string{"transmit", "receive"} { // requests and answers, of both containers
		for unit, least := range map[string]float64{"packets": 2 * packets, "bytes": 2 * bytes} {
			name := fmt.Sprintf(`weave_network_%s_%s_total{network="app"}`, way, unit)
			if got := after[name] - before[name]; got < least || got > 3*least {
				t.Errorf("%s has grown by %v, want %v and a little", name, got, least)
			}
		}
	}
	const nsprocs = `weave_nsproc_duration_seconds_count{result="success"}`
	if last := scrapeTCP(t, h, address); last[nsprocs] != after[nsprocs] {
		t.Errorf("a scrape runs nsproc %v times", last[nsprocs]-after[nsprocs])
	}
	for _, path := range []string{api.PathReport, api.PathCapture, "/Plugin.Activate"} {
		code := h.Exec(t, "curl", "-sS", "-H", "Weave-Page: yes", "-o", "/dev/null", "-w", "%{http_code}",
			"http://"+address+path)
		if code != "404" {
			t.Errorf("%s over TCP: status %s, want 404", path, code)
		}
	}

	// Drift, and a repair.
	web := endpoints(t, h, api.Query{Containers: []string{"web"}})[0]
	nsenterContainer(t, h, "web", "ip addr del "+web.Addresses[0].String()+" dev eth0")
	h.Exec(t, "ip", "link", "set", web.Bridge, "down")
	lab.Eventually(t, 20*time.Second, "drift and a repair are counted", func() error {
		now := scrape(t, h)
		for _, name := range []string{
			`weave_drift_total{action="found",kind="address-missing"}`, `weave_repairs_total`,
		} {
			if now[name] < 1 {
				return fmt.Errorf("%s is %v", name, now[name])
			}
		}
		return nil
	})

	// After a restart traffic counts from zero, and whoever may be read by others says so.
	if warnings := status(t, h).Warnings; len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	plugin.Stop(t)
	h.StartPlugin(t, "--http-address=0.0.0.0:9784")
	want(t, h.Weave(t, "status"), "--http-address 0.0.0.0:9784 is not a loopback address")
	name := `weave_network_transmit_bytes_total{network="app"}`
	if got := scrapeTCP(t, h, address)[name]; got > bytes {
		t.Errorf("%s is %v after a restart, want what was sent since", name, got)
	}
}
