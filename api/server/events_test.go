// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/events"
)

// happened returns a log with one event of each of some types, a minute apart.
func happened() *events.Log {
	log := events.New()
	for i, e := range []api.Event{
		{Type: api.NetworkEvent, Action: api.ActionMade, NetworkID: id("aaaa1"), Addresses: prefixes("10.32.0.0/22"),
			Cause: &api.Cause{Kind: api.CauseDocker, Call: "NetworkDriver.CreateNetwork"}},
		{Type: api.EndpointEvent, Action: api.ActionUp, NetworkID: id("aaaa1"), EndpointID: id("eeee1")},
		{Type: api.DriftEvent, Action: api.ActionFound, NetworkID: id("aaaa2"), EndpointID: id("eeee4"),
			Drift: api.AddressMissing, Text: "address 10.32.8.2/24 missing",
			Cause: &api.Cause{Kind: api.CauseNetlink, Call: "RTM_DELADDR", Port: 7}},
		{Type: api.EndpointEvent, Action: api.ActionDeleted, NetworkID: id("aaaa1"), EndpointID: id("eeee9"),
			ContainerID: id("cccc9"), ContainerName: "gone"},
		{Type: api.WeaveEvent, Action: api.ActionStarted},
	} {
		e.Time = day.Add(time.Duration(i) * time.Minute)
		log.Add(e)
	}
	return log
}

// requestTime is the server's time for a request and its answer, which a stream outlasts.
const requestTime = 100 * time.Millisecond

// serveEvents serves the API with a log of events at a socket until the test ends.
func serveEvents(t *testing.T, log *events.Log) string {
	t.Helper()
	tracker, names := twoNetworks()
	socket := filepath.Join(t.TempDir(), "weave.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	handler := New(Options{Tracker: tracker, Inspector: tracker, Names: names, Events: log})
	server := &httptest.Server{Listener: l, Config: &http.Server{
		Handler: handler, ReadTimeout: requestTime, WriteTimeout: requestTime,
	}}
	server.Start()
	t.Cleanup(func() {
		log.Close()
		server.Close()
	})
	return socket
}

// open opens a stream of events, which the end of the test ends.
func open(t *testing.T, socket string, q api.EventQuery) *api.EventStream {
	t.Helper()
	stream, err := api.NewClient(socket).Events(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stream.Close)
	return stream
}

// next returns type and action of the next event, or the error.
func next(stream *api.EventStream) string {
	e, err := stream.Next()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %s", e.Type, e.Action)
}

// all reads a stream to its end.
func all(t *testing.T, stream *api.EventStream) (read []string) {
	t.Helper()
	for {
		text := next(stream)
		if text == io.EOF.Error() {
			return read
		}
		read = append(read, text)
		if len(read) > 100 {
			t.Fatalf("the stream does not end: %q", read)
		}
	}
}

func TestEventsSelected(t *testing.T) {
	socket := serveEvents(t, happened())
	const network, up, drift, deleted, started = "network made", "endpoint up", "drift found", "endpoint deleted",
		"weave started"
	for _, tt := range []struct {
		name string
		q    api.EventQuery
		want []string
	}{
		{"all", api.EventQuery{}, []string{network, up, drift, deleted, started}},
		{"since the second, until before the fourth", api.EventQuery{
			Since: day.Add(time.Minute), Until: day.Add(3 * time.Minute),
		}, []string{up, drift}},
		{"types", api.EventQuery{Types: []api.EventType{api.DriftEvent, api.WeaveEvent}}, []string{drift, started}},
		{"network by name", api.EventQuery{Networks: []string{"app"}}, []string{network, up, deleted}},
		{"network by the beginning of its id", api.EventQuery{Networks: []string{"aaaa2"}}, []string{drift}},
		{"network that is not there", api.EventQuery{Networks: []string{"nowhere"}}, nil},
		{"endpoint by its id", api.EventQuery{Endpoints: []string{id("eeee1")}}, []string{up}},
		{"endpoint by its container's name", api.EventQuery{Endpoints: []string{"web"}}, []string{up, drift}},
		{"endpoint by a name that is no more", api.EventQuery{Endpoints: []string{"gone"}}, []string{deleted}},
		{"type and network", api.EventQuery{
			Types: []api.EventType{api.EndpointEvent}, Networks: []string{"app", "db"},
		}, []string{up, deleted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.q.Since.IsZero() {
				tt.q.Since = day
			}
			if tt.q.Until.IsZero() {
				tt.q.Until = day.Add(time.Hour)
			}
			if diff := cmp.Diff(tt.want, all(t, open(t, socket, tt.q))); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEventStream: what happens after the answer has begun is in the stream, whole, with names that became known later;
// it outlives the server's time for a request; and after an interruption a cursor goes on where it was.
func TestEventStream(t *testing.T) {
	log := happened()
	socket := serveEvents(t, log)
	stream := open(t, socket, api.EventQuery{})
	awaitRequestTime(t, socket)
	want := api.Event{
		Type: api.EndpointEvent, Action: api.ActionUp, NetworkID: id("aaaa1"), EndpointID: id("eeee1"),
		Addresses: prefixes("10.32.0.2/22"), Drift: api.MACChanged, Text: "text", Time: day.Add(time.Hour),
		Cause: &api.Cause{Kind: api.CauseDocker, Call: "NetworkDriver.Join", By: "by", Port: 1},
	}
	log.Add(want)
	got, err := stream.Next()
	if err != nil {
		t.Fatal(err)
	}
	cursor := got.Cursor
	want.NetworkName, want.ContainerID, want.ContainerName = "app", id("cccc1"), "web"
	compare := []cmp.Option{cmpopts.IgnoreFields(api.Event{}, "Cursor"), cmpopts.EquateComparable(netip.Prefix{})}
	if diff := cmp.Diff(want, got, compare...); diff != "" || cursor == "" {
		t.Errorf("cursor %q; event (-want +got):\n%s", cursor, diff)
	}
	stream.Close()

	log.Add(api.Event{Type: api.RepairEvent, Action: api.ActionDone})
	if text := next(open(t, socket, api.EventQuery{Cursor: cursor})); text != "repair done" {
		t.Errorf("after the cursor: %q", text)
	}
	again := open(t, socket, api.EventQuery{Cursor: "0123456789abcdef-7"})
	if text := next(again); text != "lost missed" {
		t.Errorf("after a cursor of another run: %q", text)
	}
	if text := next(again); text != "network made" {
		t.Errorf("after that: %q, want the oldest event", text)
	}
}

// awaitRequestTime waits until the time is over that the server has for reading a request which comes now.
func awaitRequestTime(t *testing.T, socket string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // there is no request, so it is closed
		t.Fatal(err)
	}
}

// TestUntilComes: the stream ends at a time that has not come when it begins.
func TestUntilComes(t *testing.T) {
	socket := serveEvents(t, happened())
	stream := open(t, socket, api.EventQuery{Until: time.Now().Add(100 * time.Millisecond)})
	if read := all(t, stream); read != nil {
		t.Errorf("events %q, want none", read)
	}
}

func TestServerSentEvents(t *testing.T) {
	log := happened()
	socket := serveEvents(t, log)
	read := func(lastID string, lines int) (text string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://weave/v1/events?since=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		if lastID != "" {
			req.Header.Set("Last-Event-ID", lastID)
		}
		resp, err := (&http.Client{Transport: api.UnixTransport(socket)}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("content type %q", got)
		}
		scanner := bufio.NewScanner(resp.Body)
		for range lines {
			if !scanner.Scan() {
				t.Fatalf("%v after %q", scanner.Err(), text)
			}
			text += scanner.Text() + "\n"
		}
		return text
	}
	first := read("", 4)
	var cursor string
	if _, err := fmt.Sscanf(first, "id: %s\nevent: network\ndata: {", &cursor); err != nil ||
		!strings.HasSuffix(first, "}\n\n") {
		t.Errorf("%v in %q", err, first)
	}
	if second := read(cursor, 4); !strings.Contains(second, "event: endpoint\n") {
		t.Errorf("after the first: %q", second)
	}
}

// TestStuckReaders: readers that don't read hold nobody up, there is a limit to how many there are, and the place of
// one that has gone is free.
func TestStuckReaders(t *testing.T) {
	log := happened()
	socket := serveEvents(t, log)
	var streams []*api.EventStream
	for range maxReaders {
		streams = append(streams, open(t, socket, api.EventQuery{}))
	}
	_, err := api.NewClient(socket).Events(t.Context(), api.EventQuery{})
	if refusal, ok := errors.AsType[*api.Error](err); !ok || refusal.Code != http.StatusServiceUnavailable {
		t.Errorf("one reader more: %v, want 503", err)
	}
	text := strings.Repeat("x", 1000)
	for range 10_000 { // more than fits into a socket's buffer, and more than are kept
		log.Add(api.Event{Type: api.ErrorEvent, Text: text})
	}
	streams[0].Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		stream, err := api.NewClient(socket).Events(t.Context(), api.EventQuery{})
		if err == nil {
			stream.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a reader that has gone is not free: ", err)
		}
	}
}

// TestStuckReaderEnds: a reader that does not read keeps its place for a while only.
func TestStuckReaderEnds(t *testing.T) {
	client, server := net.Pipe() // what is written waits until it is read
	defer client.Close()
	w := &pipeWriter{ResponseRecorder: httptest.NewRecorder(), conn: server}
	stream := eventWriter{stream: newStream(w, time.Millisecond)}
	if err := stream.write(api.Event{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an event that is not read: %v, want that the time is over", err)
	}
}

// pipeWriter is a ResponseWriter over a connection, as the server's own.
type pipeWriter struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (p *pipeWriter) Write(b []byte) (int, error)         { return p.conn.Write(b) }
func (p *pipeWriter) SetWriteDeadline(at time.Time) error { return p.conn.SetWriteDeadline(at) }

func TestEventsEndWithTheLog(t *testing.T) {
	log := happened()
	socket := serveEvents(t, log)
	stream := open(t, socket, api.EventQuery{})
	log.Close()
	if text := next(stream); text != io.EOF.Error() {
		t.Errorf("after the end: %q, want EOF", text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := api.NewClient(socket).Events(ctx, api.EventQuery{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestEventRefusals(t *testing.T) {
	const cursorForm = "want the cursor of an event: 16 characters 0-9 and a-f, a hyphen and a number"
	const timeForm = "want a time, 2006-01-02T15:04:05Z, or seconds since 1970"
	for _, tt := range []struct{ query, want string }{
		{"type=red", `parameter type: "red": want one of network, endpoint, drift, repair, error, weave, lost`},
		{"type=", `parameter type: "": want one of network, endpoint, drift, repair, error, weave, lost`},
		{"network=", `parameter network: "": want an id, the beginning of one or a name, 1 to 256 bytes`},
		{"endpoint=", `parameter endpoint: "": want an id, the beginning of one or a name, 1 to 256 bytes`},
		{"cursor=", `parameter cursor: "": ` + cursorForm},
		{"cursor=7", `parameter cursor: "7": ` + cursorForm},
		{"cursor=0123456789abcdef-1&cursor=0123456789abcdef-1", `parameter cursor: given 2 times; want it once`},
		{"since=", `parameter since: "": ` + timeForm},
		{"since=yesterday", `parameter since: "yesterday": ` + timeForm},
		{"since=NaN", `parameter since: "NaN": ` + timeForm},
		{"until=-1", `parameter until: "-1": ` + timeForm},
		{"until=1e300", `parameter until: "1e300": ` + timeForm},
		{"until=1&until=2", `parameter until: given 2 times; want it once`},
		{"colour=red", `parameter "colour": "red": unknown; want type, network, endpoint, cursor, since, until`},
	} {
		code, body := get(t, newServer(nil), "/v1/events?"+tt.query)
		if want := fmt.Sprintf("{\"error\":%q}\n", tt.want); code != http.StatusBadRequest || body != want {
			t.Errorf("%s: status %d, %s, want %s", tt.query, code, body, want)
		}
	}
}
