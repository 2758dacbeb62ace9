// SPDX-License-Identifier: Apache-2.0

// Package names lets containers find those on other hosts by name. It stands before Docker's resolver in each sandbox
// that is on a network of the cluster: what it knows it answers, all else it passes on, unchanged but for the id.
//
// It runs in the host's network namespace and never leaves it: nsproc opens the sockets in the sandboxes, and hands
// them over (package nft has the way in which questions get there). One goroutine reads all of them, since a sandbox
// has to cost little; only connections by TCP, which are few, have one each. When weave ends, names are Docker's own.
package names

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/nft"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

const (
	// refreshTime is how often each sandbox's table hears that weave is there: twice in the time that it waits.
	refreshTime = 2 * time.Second
	// openAtOnce is how many sandboxes are entered at the same time, and openTime bounds one.
	openAtOnce = 4
	openTime   = 10 * time.Second
)

// Options are what a Server works with. All are required.
type Options struct {
	Launcher *launch.Launcher
	Log      *logrus.Entry
}

// Server answers in the sandboxes.
type Server struct {
	o      Options
	most   int // sandboxes: half of the descriptors that this process may have, since all else needs some, too
	epoll  int
	wake   int           // an eventfd, which ends poll
	hurry  chan struct{} // has a value when the sandboxes have changed
	opened sync.WaitGroup
	slots  *semaphore.Weighted

	mu        sync.Mutex
	directory directory
	wanted    map[string][]Attachment // by sandbox, Docker's SandboxKey
	relays    map[string]*relay       // likewise; nil: it is being opened
	asked     map[int]asker           // by descriptor of what poll waits for
	failed    map[string]error        // by sandbox: why there are no names in it
	tooOld    error                   // the kernel's refusal; nil: it can do it, or was not asked yet
}

// asker is what a descriptor is of.
type asker struct {
	sandbox string
	relay   *relay
	kind    int // one of protocol's constants
}

// New returns a Server. Run ends it.
func New(o Options) (*Server, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("how many descriptors there may be: %w", err)
	}
	return &Server{
		o: o, most: int(min(limit.Cur, 1<<20)) / 2 / protocol.NamesSockets,
		hurry: make(chan struct{}, 1), slots: semaphore.NewWeighted(openAtOnce),
		directory: directory{}, wanted: map[string][]Attachment{}, relays: map[string]*relay{},
		asked: map[int]asker{}, failed: map[string]error{},
	}, nil
}

// openPoll opens what poll waits with.
func (s *Server) openPoll() (err error) {
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll: %w", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return errors.Join(fmt.Errorf("make an eventfd: %w", err), unix.Close(s.epoll))
	}
	if err := s.watch(s.wake); err != nil {
		return errors.Join(fmt.Errorf("wait for an eventfd: %w", err), unix.Close(s.wake), unix.Close(s.epoll))
	}
	return nil
}

// SetNetwork says which endpoints a network of the cluster has, on all hosts. Without any it is forgotten.
func (s *Server) SetNetwork(network string, endpoints []Endpoint) {
	z := newZone(endpoints)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(endpoints) == 0 {
		delete(s.directory, network)
		return
	}
	s.directory[network] = z
}

// SetSandboxes says which sandboxes are on networks of the cluster. They are entered, or left, in the background.
func (s *Server) SetSandboxes(wanted map[string][]Attachment) {
	s.mu.Lock()
	s.wanted = wanted
	s.mu.Unlock()
	s.hurryUp()
}

func (s *Server) hurryUp() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}

// Problems tells where names of other hosts are not known, and why, a line each.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tooOld != nil && len(s.wanted) > 0 {
		return []string{fmt.Sprintf("containers don't find those on other hosts by name, only by address: %v: "+
			"boot a newer kernel for that", s.tooOld)}
	}
	var out []string
	if n := len(s.wanted) - s.most; n > 0 {
		out = append(out, fmt.Sprintf("%d containers don't find those on other hosts by name: weave may have too few "+
			"descriptors for more than %d: raise LimitNOFILE", n, s.most))
	}
	for _, sandbox := range slices.Sorted(maps.Keys(s.failed)) {
		out = append(out, fmt.Sprintf("a container does not find those on other hosts by name: %v", s.failed[sandbox]))
	}
	return out
}

// Run works until ctx ends, and closes everything then. It is to be called once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.openPoll(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(s.poll)
	group.Go(func() error {
		s.keep(ctx)
		_, err := unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		return err
	})
	err := group.Wait()
	s.dropAll() // which ends connections, too
	s.opened.Wait()
	s.dropAll() // what was opened meanwhile
	return errors.Join(err, unix.Close(s.wake), unix.Close(s.epoll))
}

func (s *Server) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sandbox := range s.relays {
		s.drop(sandbox)
	}
}

// keep opens and closes relays as the sandboxes come and go, and tells their tables that weave is there.
func (s *Server) keep(ctx context.Context) {
	tick := time.NewTicker(refreshTime)
	defer tick.Stop()
	for {
		s.openWanted(ctx)
		select {
		case <-ctx.Done():
			return
		case <-s.hurry:
			s.dropUnwanted(func(string) bool { return true })
		case <-tick.C:
			s.dropUnwanted(s.isThere)
			s.refresh()
		}
	}
}

// isThere reports whether Docker still has the sandbox. While its sockets are open the namespace exists, so that weave
// would not notice otherwise that Docker, which was killed, has forgotten a container.
func (s *Server) isThere(path string) bool {
	f, err := s.o.Launcher.Sandboxes().Open(path)
	if err == nil {
		f.Close()
	}
	return !errors.Is(err, sandbox.ErrGone) && !errors.Is(err, sandbox.ErrNotVisible)
}

// dropUnwanted closes the relays of sandboxes that are not wanted or not there any more.
func (s *Server) dropUnwanted(isThere func(sandbox string) bool) {
	for _, sandbox := range s.open() {
		there := isThere(sandbox)
		s.mu.Lock()
		if _, ok := s.wanted[sandbox]; !ok || !there {
			s.drop(sandbox)
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.failed, func(sandbox string, _ error) bool { _, ok := s.wanted[sandbox]; return !ok })
}

// open returns the sandboxes that have a relay.
func (s *Server) open() (sandboxes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sandbox, r := range s.relays {
		if r != nil {
			sandboxes = append(sandboxes, sandbox)
		}
	}
	return sandboxes
}

// drop closes a sandbox's relay. The caller holds the lock; while Run works only keep's goroutine closes one that is
// open, so that it can use the table's socket without the lock.
func (s *Server) drop(sandbox string) {
	r := s.relays[sandbox]
	delete(s.relays, sandbox)
	if r == nil {
		return
	}
	for fd, a := range s.asked {
		if a.relay == r {
			delete(s.asked, fd)
		}
	}
	r.close()
}

// refresh tells all tables that weave is there. A table that is gone is made again.
func (s *Server) refresh() {
	for _, sandbox := range s.open() {
		s.mu.Lock()
		fd := s.relays[sandbox].sockets[protocol.SocketTable]
		s.mu.Unlock()
		if err := nft.Refresh(fd); err != nil {
			s.o.Log.WithError(err).WithField("sandbox", sandbox).Warn("names: the table is gone, and is made again")
			s.mu.Lock()
			s.drop(sandbox)
			s.mu.Unlock()
		}
	}
}

// openWanted enters the sandboxes that are wanted and have no relay, in the background.
func (s *Server) openWanted(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sandbox := range s.wanted {
		if _, ok := s.relays[sandbox]; ok || s.tooOld != nil || len(s.relays) >= s.most {
			continue
		}
		s.relays[sandbox] = nil
		s.opened.Go(func() { s.enter(ctx, sandbox) })
	}
}

// enter opens a sandbox's relay. When that fails it is tried again with the next refresh.
func (s *Server) enter(ctx context.Context, sandbox string) {
	err := s.slots.Acquire(ctx, 1)
	if err == nil {
		defer s.slots.Release(1)
		ctx, cancel := context.WithTimeout(ctx, openTime)
		defer cancel()
		err = s.openRelay(ctx, sandbox)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failed, sandbox)
		s.hurryUp() // it may not be wanted any more
		return
	}
	delete(s.relays, sandbox)
	switch {
	case ctx.Err() != nil || !s.isThere(sandbox):
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		s.tooOld = err
		s.o.Log.WithError(err).Warn("names: containers don't find those on other hosts by name")
	default:
		if s.failed[sandbox] == nil {
			s.o.Log.WithError(err).Warn("names: not in this container, trying again")
		}
		s.failed[sandbox] = err
	}
}

// openRelay opens a sandbox's relay and leads its questions there.
func (s *Server) openRelay(ctx context.Context, sandbox string) error {
	started := time.Now()
	sockets, err := s.o.Launcher.Names(ctx, sandbox)
	if err != nil {
		return err
	}
	r, err := newRelay(sockets)
	if err == nil {
		// First, so that nobody else uses the socket meanwhile. Questions wait in theirs.
		err = nft.Refresh(sockets[protocol.SocketTable])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relays[sandbox] = r
	for _, kind := range []int{protocol.SocketUDP, protocol.SocketTCP, protocol.SocketDocker} {
		if err == nil {
			s.asked[sockets[kind]] = asker{sandbox, r, kind}
			err = s.watch(sockets[kind])
		}
	}
	if err != nil {
		s.drop(sandbox)
		return err
	}
	s.o.Log.WithFields(logrus.Fields{"sandbox": sandbox, "took": time.Since(started)}).Debug("names: open")
	return nil
}
