// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/internal/browsertest"
)

// idleTime is how long weave's use of the processor is measured while nothing happens. settleTime is the time before
// it: weave looks at endpoints that are new, and a page asks for names, of which there are none without Docker.
const (
	idleTime   = 30 * time.Second
	settleTime = 15 * time.Second
)

// What does it cost to have a network observed, while 100 endpoints are idle? And how long does it take until drift in
// a sandbox is told?
func BenchmarkObserving(b *testing.B) {
	const address = "127.0.0.1:9784"
	a := startAloneWith(b, lab.Options{}, "--http-address="+address)
	a.addNetwork(b)
	a.grow(b, 100)
	const endpoints = "endpoints: 100"
	client := unixClient(a.Path(lab.APISocket))

	a.busy(b, settleTime)
	alone := a.busy(b, idleTime)
	before := memoryOf(b, a.plugin.PID)
	tab := browsertest.Open(b, "http://"+a.Forward(b, address))
	tab.Await(`document.querySelectorAll('#table tbody tr').length === 100`)
	a.busy(b, settleTime)
	page := a.busy(b, idleTime)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	events := a.follow(ctx, b)
	go repeat(ctx, 15*time.Second, func() error { return get(client, "http://weave"+api.PathMetrics, nil) })
	observed := a.busy(b, idleTime)
	after := memoryOf(b, a.plugin.PID)

	x := result{Question: "weave's use of the processor, nobody looks", Case: endpoints, Unit: "% of a core"}
	x.Value = alone
	results.add(b, x)
	x.Question, x.Value = "the same, a page open", page
	results.add(b, x)
	x.Question, x.Value, x.Target = "the same, events followed, metrics read each 15 s, too", observed, atMost(1)
	results.add(b, x)
	x = result{Question: "memory that all of it takes, resident", Case: endpoints, Unit: "MB"}
	x.Value = after["Rss"] - before["Rss"]
	results.add(b, x)

	var took []float64
	for i := range 50 {
		took = append(took, a.driftIn(b, events, i))
	}
	x = result{Question: "drift in a sandbox, until it is told", Case: endpoints, Unit: "ms", Value: median(took)}
	x.Target = atMost(100)
	results.add(b, x)
	x.Question, x.Value = "the slowest of 50", quantile(took, 1)
	results.add(b, x)
}

// busy returns how much of a core the plugin uses during a time, in percent.
func (a *alone) busy(b *testing.B, during time.Duration) float64 {
	b.Helper()
	start, used := time.Now(), cpuOf(b, a.plugin.PID)
	select {
	case <-time.After(during):
	case <-b.Context().Done():
	}
	return 100 * (cpuOf(b, a.plugin.PID) - used).Seconds() / time.Since(start).Seconds()
}

// follow returns the events that happen.
func (a *alone) follow(ctx context.Context, b *testing.B) <-chan api.Event {
	b.Helper()
	stream, err := api.NewClient(a.Path(lab.APISocket)).Events(ctx, api.EventQuery{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stream.Close() })
	events := make(chan api.Event, 64)
	go func() {
		defer close(events)
		for {
			e, err := stream.Next()
			if err != nil {
				return
			}
			events <- e
		}
	}()
	return events
}

// repeat calls a function at once and then every so often until ctx ends or it fails.
func repeat(ctx context.Context, every time.Duration, f func() error) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for f() == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// driftIn adds another address of the subnet in a sandbox and returns how many milliseconds it takes until that is
// told.
func (a *alone) driftIn(b *testing.B, events <-chan api.Event, n int) float64 {
	b.Helper()
	sandbox := fmt.Sprintf("c%d", n)
	// weave takes a /22, and hands out its first addresses.
	last := netip.MustParsePrefix(a.networks[0].Pool).Addr().As4()
	last[2], last[3] = last[2]|3, byte(n+1)
	address := netip.AddrFrom4(last).String() + "/32"
	start := time.Now()
	a.Exec(b, "ip", "-n", sandbox, "address", "add", address, "dev", "eth0")
	deadline := time.After(time.Minute)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				b.Fatal("the events end")
			}
			if e.Type == api.DriftEvent && strings.Contains(e.Text, address) {
				return time.Since(start).Seconds() * 1e3
			}
		case <-deadline:
			b.Fatalf("address %s in sandbox %s is not told", address, sandbox)
		}
	}
}
