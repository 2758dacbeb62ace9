// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/nft"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

// keep has a goroutine enter each sandbox that is wanted, and leave it when it is not wanted any more.
func (s *Server) keep(ctx context.Context) {
	for {
		s.enterWanted(ctx)
		select {
		case <-ctx.Done():
			return
		case <-s.hurry:
		}
	}
}

func (s *Server) enterWanted(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sandbox, leave := range s.entered {
		if _, ok := s.wanted[sandbox]; !ok {
			leave()
		}
	}
	for sandbox := range s.wanted {
		if _, ok := s.entered[sandbox]; ok || s.tooOld != nil || len(s.entered) >= s.most {
			continue
		}
		ctx, leave := context.WithCancel(ctx)
		s.entered[sandbox] = leave
		s.inside.Go(func() {
			s.stay(ctx, sandbox)
			leave()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.entered, sandbox)
			delete(s.failed, sandbox)
			s.hurryUp() // it may be wanted again, or another one in its place
		})
	}
}

// stay answers in a sandbox until ctx ends. It has a goroutine of its own, which alone uses the table's socket: a
// container that works on its nftables keeps whoever uses or closes that waiting, for as long as it likes.
func (s *Server) stay(ctx context.Context, sandbox string) {
	for ctx.Err() == nil {
		if err := s.answerIn(ctx, sandbox); err != nil && ctx.Err() == nil && s.isThere(sandbox) {
			s.note(sandbox, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(refreshTime):
		}
	}
}

// note notes why there are no names in a sandbox; nil: there are.
func (s *Server) note(sandbox string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failed, sandbox)
		return
	}
	if s.failed[sandbox] == nil {
		s.o.Log.WithError(err).WithField("sandbox", sandbox).Warn("names: not in this container, trying again")
	}
	s.failed[sandbox] = err
}

// answerIn answers in a sandbox until ctx ends, the sandbox is gone, or something fails. It tells the table meanwhile
// that weave is there.
func (s *Server) answerIn(ctx context.Context, sandbox string) error {
	r, err := s.openRelay(ctx, sandbox)
	if err != nil {
		return err
	}
	defer s.closeRelay(r)
	tick := time.NewTicker(refreshTime)
	defer tick.Stop()
	for s.isThere(sandbox) {
		if err := nft.Refresh(r.sockets[protocol.SocketTable]); err != nil {
			return fmt.Errorf("the table that leads questions to weave in sandbox %s: %w", sandbox, err)
		}
		s.note(sandbox, nil)
		select {
		case <-ctx.Done():
			return nil
		case err := <-r.failed:
			return err
		case <-tick.C:
		}
	}
	return nil
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

// openRelay opens a sandbox's relay. Questions are led there after nft.Refresh.
func (s *Server) openRelay(ctx context.Context, sandbox string) (*relay, error) {
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	// Even if the kernel does not let go of nsproc: the sandbox's nftables are busy.
	context.AfterFunc(ctx, func() { s.slots.Release(1) })
	started := time.Now()
	sockets, err := s.o.Launcher.Names(ctx, sandbox)
	if err != nil {
		return nil, err
	}
	r := newRelay(sockets)
	if err := s.watchRelay(sandbox, r); err != nil {
		s.closeRelay(r)
		return nil, err
	}
	s.o.Log.WithFields(logrus.Fields{"sandbox": sandbox, "took": time.Since(started)}).Debug("names: open")
	return r, nil
}

// watchRelay has poll read what arrives at a relay's sockets.
func (s *Server) watchRelay(sandbox string, r *relay) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, kind := range []int{protocol.SocketUDP, protocol.SocketTCP, protocol.SocketDocker} {
		s.asked[r.sockets[kind]] = asker{sandbox, r, kind}
		if err := s.watch(r.sockets[kind]); err != nil {
			return fmt.Errorf("wait for questions in sandbox %s: %w", sandbox, err)
		}
	}
	return nil
}

// closeRelay closes a relay: the table first, and without the lock, since that may take long. Until then what is asked
// is answered.
func (s *Server) closeRelay(r *relay) {
	unix.Close(r.sockets[protocol.SocketTable])
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.asked, func(_ int, a asker) bool { return a.relay == r })
	r.close()
}
