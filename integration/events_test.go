// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// follower reads a stream of events in the background, until the test ends.
type follower struct {
	t      *testing.T
	events chan api.Event // closed at the end of the stream
	err    error          // of the stream; to be read when events is closed
}

func followEvents(t *testing.T, h *lab.Host, q api.EventQuery) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := api.NewClient(h.Path(lab.APISocket)).Events(ctx, q)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	f := &follower{t: t, events: make(chan api.Event, 1000)}
	go func() {
		defer close(f.events)
		for {
			e, err := stream.Next()
			if err != nil {
				f.err = err
				return
			}
			f.events <- e
		}
	}()
	t.Cleanup(func() {
		cancel()
		stream.Close()
		for range f.events {
		}
	})
	return f
}

// await waits for the events that are wanted, in this order, with others between them. It returns the last one, and
// what came before it.
func (f *follower) await(want ...string) (last api.Event, seen []string) {
	f.t.Helper()
	timeout := time.After(20 * time.Second)
	for len(want) > 0 {
		select {
		case e, ok := <-f.events:
			if !ok {
				f.t.Fatalf("the stream ended (%v); seen:\n%s\nwant %q", f.err, strings.Join(seen, "\n"), want[0])
			}
			text := describeEvent(e)
			if strings.HasPrefix(text, want[0]) {
				last, want = e, want[1:]
			}
			seen = append(seen, text)
		case <-timeout:
			f.t.Fatalf("seen:\n%s\nwant %q", strings.Join(seen, "\n"), want[0])
		}
	}
	return last, seen
}

// describeEvent returns an event in a line, "drift found by netlink RTM_DELADDR: address ... missing".
func describeEvent(e api.Event) string {
	text := fmt.Sprintf("%s %s", e.Type, e.Action)
	if e.Cause != nil {
		c := *e.Cause
		c.Port = 0
		text += " by " + c.String()
	}
	return text + ": " + e.Text
}

// TestEvents: whoever follows events hears of networks and endpoints with Docker's calls as causes, of drift that
// somebody makes in a container, and of repairs; nothing that weave and Docker do is drift; and after a restart a
// cursor tells that there may be events that are lost.
func TestEvents(t *testing.T) {
	h, plugin := startHost(t, "events")
	f := followEvents(t, h, api.EventQuery{})

	weaveNetwork(t, h, "app", "--ipam-driver", "weave", "--ipv6", "-o", "works.weave.multicast=true")
	weaveNetwork(t, h, "other", "--ipam-driver", "weave", "-o", "works.weave.gateway=docker")
	h.Run(t, "--network", "app", "--name", "web")
	h.Docker(t, "network", "connect", "other", "web")
	awaitEndpoints(t, h, 2)
	h.Docker(t, "restart", "-t", "0", "web")
	h.Docker(t, "network", "disconnect", "other", "web")
	awaitEndpoints(t, h, 1)
	h.Docker(t, "stop", "-t", "0", "web")
	h.Docker(t, "start", "web")
	web := awaitEndpoints(t, h, 1)[0]
	const byDocker = " by docker NetworkDriver."
	_, seen := f.await("network made"+byDocker+"CreateNetwork", "network made"+byDocker+"CreateNetwork",
		"endpoint created"+byDocker+"CreateEndpoint", "endpoint joined"+byDocker+"Join", "endpoint up",
		"endpoint created"+byDocker+"CreateEndpoint", "endpoint joined"+byDocker+"Join", "endpoint up",
		"endpoint left"+byDocker+"Leave", "endpoint deleted"+byDocker+"DeleteEndpoint",
		"endpoint left"+byDocker+"Leave", "endpoint deleted"+byDocker+"DeleteEndpoint")
	for _, text := range seen {
		if !strings.HasPrefix(text, "network") && !strings.HasPrefix(text, "endpoint") {
			t.Errorf("of what Docker has weave do is told: %s", text)
		}
	}

	address := web.Addresses[0].String()
	inside := func(command string) { nsenterContainer(t, h, "web", command) }
	inside("ip addr del " + address + " dev eth0")
	missing := "address " + address + " missing"
	drift, seen := f.await("drift found by netlink RTM_DELADDR: " + missing)
	for _, text := range seen {
		if strings.HasPrefix(text, "drift") && text != describeEvent(drift) {
			t.Errorf("told as drift: %s", text)
		}
	}
	if drift.EndpointID != web.ID || drift.NetworkName != "app" || drift.ContainerName != "web" ||
		drift.Drift != api.AddressMissing || drift.Cause.Port == 0 {
		t.Errorf("drift %+v", drift)
	}
	inside("ip addr add " + address + " dev eth0")
	f.await("drift gone by netlink RTM_NEWADDR: " + missing)
	inside("ip -4 route replace default via " + strings.Split(web.Gateway, ",")[0])
	inside("ip -4 route del default")
	f.await("drift found by netlink RTM_DELROUTE: default route missing")

	h.Exec(t, "ip", "link", "set", web.Bridge, "down")
	f.await("drift found by netlink: bridge "+web.Bridge, "repair done by repair: bridge "+web.Bridge)
	if _, err := h.DockerErr("network", "create", "-d", "weave", "-o", "works.weave.mtu=1", "bad"); err == nil {
		t.Error("an MTU of 1 is accepted")
	}
	failed, _ := f.await("error failed by docker NetworkDriver.CreateNetwork: ")
	want(t, failed.Text, "works.weave.mtu")

	// The command line.
	events := func(args ...string) string {
		return h.Weave(t, append([]string{"events", "--since", "1h", "--until", "0s"}, args...)...)
	}
	want(t, events(), "TIME", "NetworkDriver.CreateNetwork", missing, "web", "app")
	if out := events("--filter", "type=drift,network=other"); strings.Count(out, "\n") > 1 {
		t.Errorf("drift on another network:\n%s", out)
	}
	want(t, events("--filter", "endpoint=web", "--filter", "type=drift", "--format", "{{.Text}}"), missing)

	// A reader that does not read: Docker's calls go on.
	stuck, err := net.Dial("unix", h.Path(lab.APISocket))
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if _, err := io.WriteString(stuck, "GET /v1/events?since=0 HTTP/1.1\r\nHost: weave\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	h.Docker(t, "network", "connect", "other", "web")
	last, _ := f.await("endpoint created" + byDocker + "CreateEndpoint")

	// Whoever has the cursor goes on after it; weave stops although there are streams, which it ends.
	f.await("endpoint joined")
	again := followEvents(t, h, api.EventQuery{Cursor: last.Cursor})
	if e := <-again.events; !strings.HasPrefix(describeEvent(e), "endpoint joined") {
		t.Errorf("after the cursor: %s", describeEvent(e))
	}
	plugin.Stop(t)
	for range again.events {
	}
	if !errors.Is(again.err, io.EOF) {
		t.Errorf("when weave stops the stream ends with %v, want EOF", again.err)
	}
	plugin.Restart(t)
	resumed := followEvents(t, h, api.EventQuery{Cursor: last.Cursor})
	_, seen = resumed.await("lost missed: the cursor is of another run of weave", "weave started by start: weave ")
	if !slices.ContainsFunc(seen[:1], func(s string) bool { return strings.HasPrefix(s, "lost") }) {
		t.Errorf("the first event after another run's cursor: %q", seen)
	}
}

// checkDriftIsTold makes drift in a container on a network, takes it back, and waits until both are told: weave may
// hear the kernel's events in containers.
func checkDriftIsTold(t *testing.T, h *lab.Host, container, network string) {
	t.Helper()
	id := attachmentOf(t, h, container, network).EndpointID
	all := endpoints(t, h, api.Query{})
	address := all[slices.IndexFunc(all, func(e api.Endpoint) bool { return e.ID == id })].Addresses[0].String()
	f := followEvents(t, h, api.EventQuery{Types: []api.EventType{api.DriftEvent}, Endpoints: []string{id}})
	nsenterContainer(t, h, container, "ip addr del "+address+" dev eth0")
	f.await("drift found by netlink RTM_DELADDR: address " + address)
	nsenterContainer(t, h, container, "ip addr add "+address+" dev eth0")
	f.await("drift gone by netlink RTM_NEWADDR: address " + address)
}

// nsenterContainer runs a command of the host's in a container's network namespace.
func nsenterContainer(t *testing.T, h *lab.Host, container, command string) {
	t.Helper()
	pid := strings.TrimSpace(h.Docker(t, "inspect", "-f", "{{.State.Pid}}", container))
	h.Exec(t, "nsenter", append([]string{"-t", pid, "-n", "--"}, strings.Fields(command)...)...)
}
