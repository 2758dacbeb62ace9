// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/internal/problems"
	"github.com/weaveplugin/weave/internal/wait"
)

// ErrNotRead is the result of Reachable before the first attempt to read Docker's API has ended.
var ErrNotRead = errors.New("not read yet")

// WatcherOptions are what a Watcher works with.
type WatcherOptions struct {
	Socket   string   // required: path of the socket of Docker's API
	Drivers  []string // for Known: driver names under which Docker knows weave
	PluginID string   // optional: id of the managed plugin that weave is; its name is then also a driver name

	// HasAliases reports whether the aliases of containers on a network are wanted, by Docker's id of it. It costs a
	// request for each container there. Nil: they are not.
	HasAliases func(network string) bool

	Log *logrus.Entry // required
}

// Watcher follows the names of Docker's networks and containers while Run runs. While Docker's API can't be read it
// keeps the names that it has; it has none until it could read them once.
type Watcher struct {
	client   client
	drivers  []string
	pluginID string
	aliased  func(network string) bool
	log      *logrus.Entry
	timing   watchTiming
	names    atomic.Pointer[names]
	pools    atomic.Pointer[[]netip.Prefix] // Docker's default address pools; nil: not read yet
	dead     problems.List                  // services
	reach    atomic.Pointer[error]          // why Docker's API can't be read; points to nil if it can
	updated  chan struct{}                  // has a value when the names may be others than when it was taken
	requests chan chan struct{}             // for a new reading, from Refresh; each is closed after the reading
}

// names is one reading of Docker's names. It is never changed.
type names struct {
	networks   map[string]string    // by network id
	containers map[string]container // by endpoint id
	plugin     string               // full name of the managed plugin that weave is; empty: it is none
	plugins    []string             // full names of all managed plugins
}

type container struct {
	id, name string
	network  string   // id of the endpoint's
	aliases  []string // on that network, where they are wanted
}

// watchTiming says when a Watcher reads.
type watchTiming struct {
	spacing  time.Duration // the least time between two readings
	most     time.Duration // to which a long reading makes it
	lag      time.Duration // after an event and its reading, to another one
	resync   time.Duration // the most time: Docker drops events for a subscriber that it finds slow
	retry    time.Duration // the first wait before another attempt; doubled each time
	maxRetry time.Duration
}

// after returns the time from a reading to the next one. Other hosts are not to wait for the name of a new container,
// and Docker is not to be busy with telling names: so the longer it takes the longer it has rest.
func (t watchTiming) after(took time.Duration) time.Duration {
	const rest = 10
	return min(max(t.spacing, rest*took), t.most)
}

// NewWatcher returns a Watcher. It does not connect.
func NewWatcher(o WatcherOptions) *Watcher {
	w := &Watcher{
		client:   newClient(o.Socket),
		drivers:  o.Drivers,
		pluginID: o.PluginID,
		aliased:  o.HasAliases,
		log:      o.Log.WithField("docker", o.Socket),
		updated:  make(chan struct{}, 1),
		requests: make(chan chan struct{}),
		timing: watchTiming{
			spacing:  20 * time.Millisecond,
			most:     250 * time.Millisecond,
			lag:      time.Second,
			resync:   5 * time.Minute,
			retry:    250 * time.Millisecond,
			maxRetry: 5 * time.Second,
		},
	}
	w.names.Store(&names{})
	w.reach.Store(&ErrNotRead)
	return w
}

// NetworkName returns what Docker calls the network of this id; empty: not known.
func (w *Watcher) NetworkName(id string) string { return w.names.Load().networks[id] }

// HasNetwork reports whether Docker has a network of this name, as far as weave has read.
func (w *Watcher) HasNetwork(name string) bool {
	for _, known := range w.names.Load().networks {
		if known == name {
			return true
		}
	}
	return false
}

// Container returns the id and the name of the container that the endpoint of this id belongs to; empty: not known.
func (w *Watcher) Container(endpoint string) (id, name string) {
	c := w.names.Load().containers[endpoint]
	return c.id, c.name
}

// Aliases returns the names besides the container's under which its neighbours on the network of the endpoint of this
// id find it; none: not known, or not wanted.
func (w *Watcher) Aliases(endpoint string) []string {
	return w.names.Load().containers[endpoint].aliases
}

// Reachable returns nil if Docker's API could be read when it was last tried, else the reason: ErrNotRead at first.
func (w *Watcher) Reachable() error { return *w.reach.Load() }

// Version asks Docker for the version of its Engine.
func (w *Watcher) Version(ctx context.Context) (string, error) {
	s, err := w.client.connect(ctx)
	if err != nil {
		return "", err
	}
	var v struct{ Version string }
	err = s.get(ctx, "/version", &v)
	return v.Version, err
}

// Updated has a value when the names may be others than when it was taken. It is for one reader.
func (w *Watcher) Updated() <-chan struct{} { return w.updated }

// Refresh has the names read anew and waits until they are as new as the call, or until ctx ends. While Docker's API
// can't be read it returns at once.
func (w *Watcher) Refresh(ctx context.Context) {
	if w.Reachable() != nil {
		return
	}
	done := make(chan struct{})
	select {
	case w.requests <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Run keeps the names up to date until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	defer w.client.close()
	pause := w.timing.retry
	for {
		started := time.Now()
		established, err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if !established {
			w.setReachable(err)
		}
		w.log.WithError(err).Debug("docker's API: start again")
		if established && time.Since(started) > w.timing.maxRetry {
			pause = w.timing.retry
		}
		if !wait.For(ctx, pause) {
			return
		}
		pause = min(2*pause, w.timing.maxRetry)
	}
}

// follow reads the names and reads them again after each change, until something fails. Established reports whether
// only the stream of events failed, while the names themselves could be read.
func (w *Watcher) follow(ctx context.Context) (established bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := w.client.connect(ctx)
	if err != nil {
		return false, err
	}
	w.readPools(ctx, s)
	stream, err := s.events(ctx) // before the first reading, so that no change falls between
	if err != nil {
		return false, err
	}
	changed, broken := make(chan struct{}, 1), make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		broken <- readEvents(stream, changed)
	}()
	defer func() {
		stream.Close()
		<-done
	}()
	var waiting []chan struct{}
	defer func() { release(waiting) }()
	// Docker tells of what is connected to a network before its lists have that (ConnectToNetwork of its
	// daemon/container_operations.go).
	lags := false
	for {
		waiting = append(waiting, w.takeRequests()...)
		started := time.Now()
		n, err := s.readNames(ctx, w.pluginID)
		if err == nil && w.aliased != nil {
			err = s.readAliases(ctx, n, w.names.Load(), w.aliased)
		}
		if err != nil {
			return false, err
		}
		w.names.Store(n)
		wait.Signal(w.updated)
		w.setReachable(nil)
		release(waiting)
		waiting = nil
		if !wait.For(ctx, w.timing.after(time.Since(started))) {
			return true, ctx.Err()
		}
		pause := w.timing.resync
		if lags {
			pause = w.timing.lag
		}
		resync := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-changed:
			lags = true
		case request := <-w.requests:
			waiting = append(waiting, request)
		case <-resync.C:
			lags = false
		case err = <-broken:
		}
		resync.Stop()
		if err != nil || ctx.Err() != nil {
			return true, errors.Join(err, ctx.Err())
		}
	}
}

// takeRequests takes the requests for a new reading that wait now.
func (w *Watcher) takeRequests() (waiting []chan struct{}) {
	for {
		select {
		case request := <-w.requests:
			waiting = append(waiting, request)
		default:
			return waiting
		}
	}
}

func release(waiting []chan struct{}) {
	for _, done := range waiting {
		close(done)
	}
}

// setReachable records whether Docker's API can be read, and logs a change.
func (w *Watcher) setReachable(err error) {
	was := *w.reach.Swap(&err)
	switch {
	case err == nil && was != nil:
		w.log.Info("docker's API can be read: names are up to date")
	case err != nil && (was == nil || errors.Is(was, ErrNotRead)):
		w.log.WithError(err).Warn("docker's API can't be read: listings lack names or have old ones until it can")
	}
}

// eventFilter selects the events of what can change a name or the container of an endpoint.
var eventFilter = url.Values{"filters": {`{"type":{"container":true,"network":true},"event":{"create":true,` +
	`"rename":true,"start":true,"die":true,"destroy":true,"remove":true,"connect":true,"disconnect":true}}`}}

const maxEvent = 1 << 20 // bytes

// readEvents sends to changed after each event, unless a signal still waits there, until the stream fails.
func readEvents(stream io.Reader, changed chan<- struct{}) error {
	limited := &io.LimitedReader{R: stream, N: maxEvent}
	events := json.NewDecoder(limited)
	for {
		var event struct{ Type string }
		if err := events.Decode(&event); err != nil {
			return fmt.Errorf("read docker's events: %w", err)
		}
		limited.N = maxEvent
		wait.Signal(changed)
	}
}
