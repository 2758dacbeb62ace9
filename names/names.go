// SPDX-License-Identifier: Apache-2.0

// Package names lets containers find those on other hosts by name. It stands before Docker's resolver in each sandbox
// that is on a network of the cluster: what it knows it answers, all else it passes on, unchanged but for the id.
//
// It runs in the host's network namespace and never leaves it: nsproc opens the sockets in the sandboxes, and hands
// them over (package nft has the way in which questions get there). One goroutine reads all of them, with one buffer,
// since a sandbox has to cost little; connections by TCP, which are few, have one each. One goroutine of each sandbox
// opens its sockets, keeps its table alive and closes them. When weave ends, names are Docker's own.
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

	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/nft"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

const (
	// refreshTime is how often each sandbox's table hears that weave is there, twice in the time that it waits, and how
	// long it takes until what has failed in a sandbox is tried again.
	refreshTime = 2 * time.Second
	// openAtOnce is how many sandboxes are entered at the same time, and openTime bounds one.
	openAtOnce = 4
	openTime   = 10 * time.Second
	// closeTime is how long Run waits in the end. A sandbox whose nftables are busy keeps weave from closing its table.
	closeTime = 5 * time.Second
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
	slots  *semaphore.Weighted
	inside sync.WaitGroup // the goroutines of sandboxes and of connections

	mu        sync.Mutex
	directory directory
	wanted    map[string][]Attachment       // by sandbox, Docker's SandboxKey
	entered   map[string]context.CancelFunc // likewise, if it has a goroutine: ends it
	asked     map[int]asker                 // by descriptor of what poll waits for
	failed    map[string]error              // by sandbox: why there are no names in it
	tooOld    error                         // the kernel's refusal; nil: it can do it, or was not asked yet
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
		directory: directory{}, wanted: map[string][]Attachment{}, entered: map[string]context.CancelFunc{},
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
	wait.Signal(s.hurry)
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
	s.askKernel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(s.poll)
	group.Go(func() error {
		s.keep(ctx)
		s.awaitEnd()
		_, err := unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		return err
	})
	return errors.Join(group.Wait(), unix.Close(s.wake), unix.Close(s.epoll))
}

// askKernel finds out whether the kernel is too old. What fails in a sandbox does not tell: a container has ways to
// bring about any error there.
func (s *Server) askKernel() {
	err := nft.Supported()
	if err == nil {
		return
	}
	s.o.Log.WithError(err).Warn("names: containers may not find those on other hosts by name")
	if errors.Is(err, nft.ErrNoOwner) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tooOld = err
	}
}

// awaitEnd waits until all sandboxes have been left and all connections have ended.
func (s *Server) awaitEnd() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.inside.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(closeTime):
		s.o.Log.Warn("names: a container's nftables are busy, its table goes when they have done")
	}
}
