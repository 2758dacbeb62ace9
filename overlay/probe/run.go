// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// bufferSize is more than any frame with its headers, in bytes.
	bufferSize = 1 << 17
	// framesPerSecond is how many are read at most; 1,000 hosts send 600 in a second.
	framesPerSecond = 4000
)

// Run probes and answers until ctx ends, and then removes the device. What fails is logged and tried again.
func (p *Prober) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		p.mu.Lock()
		mtu := p.mtu
		p.mu.Unlock()
		if mtu == 0 {
			p.note(nil)
			select {
			case <-ctx.Done():
			case <-p.kick:
			}
			continue
		}
		if err := p.serve(ctx, mtu); err != nil && ctx.Err() == nil {
			p.note(err)
			wait.For(ctx, p.pace.open)
		}
	}
	return nil
}

// note notes why there is no device, or, with nil, that all is well. The log tells each change.
func (p *Prober) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil && p.problem != nil:
		p.o.Log.Info("tunnels to other hosts are probed again")
	case err != nil && (p.problem == nil || p.problem.Error() != err.Error()):
		p.o.Log.WithError(err).Warn("tunnels to other hosts are not probed: trying again")
	}
	p.problem = err
}

// serve probes and answers with a device for frames of that MTU, until another is wanted, the device is gone, or ctx
// ends.
func (p *Prober) serve(ctx context.Context, mtu int) error {
	d, err := p.open(p.o, mtu)
	if err != nil {
		return err
	}
	p.note(nil)
	p.use(d)
	var reading sync.WaitGroup
	ended := make(chan error, 1)
	reading.Go(func() { ended <- p.read(ctx, d) })
	err = p.send(ctx, d, ended)
	p.use(nil)
	err = errors.Join(err, d.socket.Close()) // ends read
	reading.Wait()
	return errors.Join(err, d.close())
}

// use has frames be sent by a device, on which nothing is entered yet; nil: by none. Rounds begin anew.
func (p *Prober) use(d *device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.device = d
	for _, pe := range p.peers {
		pe.entered, pe.begun, pe.silent = time.Time{}, time.Time{}, time.Time{}
	}
}

// send sends the requests, each when it is due.
func (p *Prober) send(ctx context.Context, d *device, ended <-chan error) error {
	for {
		if err := p.keepRows(d, time.Now()); err != nil {
			return err
		}
		p.mu.Lock()
		next, err := p.step(time.Now())
		isWrong := p.mtu != d.MTU
		p.mu.Unlock()
		if err != nil || isWrong {
			return err
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case err = <-ended:
		case <-p.kick:
		case <-timer.C:
		}
		timer.Stop()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// keepRows enters where hosts are into the device's table. It does not hold the lock meanwhile: the kernel may be busy
// for seconds with the links of others, and those who ask have to be answered.
func (p *Prober) keepRows(d *device, now time.Time) error {
	p.mu.Lock()
	gone := p.gone
	p.gone = nil
	var stale []*peer
	var hosts []Host
	for _, pe := range p.peers {
		isNeeded := pe.MTU > 0 || pe.heard.After(pe.entered)
		isStale := now.Sub(pe.entered) > p.pace.entered
		if isNeeded && isStale && isOther(pe.VTEP, p.o.Local) && sameFamily(pe.VTEP, p.o.Local) {
			stale, hosts = append(stale, pe), append(hosts, pe.Host)
		}
	}
	p.mu.Unlock()
	for _, h := range gone {
		d.forget(h)
	}
	for _, h := range hosts {
		if err := d.enter(h); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, pe := range stale {
		if pe.VTEP == hosts[i].VTEP { // it has not moved meanwhile
			pe.entered = now
		}
	}
	return nil
}

// step does what is due, and returns when the next is. The caller holds the lock.
func (p *Prober) step(now time.Time) (next time.Time, err error) {
	next = now.Add(p.pace.interval)
	for _, pe := range p.peers {
		if pe.MTU == 0 {
			continue
		}
		if !now.Before(pe.due) {
			if err := p.advance(pe, now); err != nil {
				return next, err
			}
		}
		if pe.due.Before(next) {
			next = pe.due
		}
	}
	return next, nil
}

// read handles what comes, until the socket is closed or its device is gone.
func (p *Prober) read(ctx context.Context, d *device) error {
	buf := make([]byte, bufferSize)
	var b budget
	for {
		n, err := d.socket.Read(buf)
		if err != nil {
			return fmt.Errorf("receive from %s: %w", d.Name, err)
		}
		if d := b.spend(time.Now()); d > 0 {
			wait.For(ctx, d)
		}
		p.mu.Lock()
		p.handle(buf[:n], time.Now())
		p.mu.Unlock()
	}
}

// budget bounds how many frames are read in a second.
type budget struct {
	begun time.Time // the second
	spent int
}

// spend spends one frame, and returns how long to wait before it.
func (b *budget) spend(now time.Time) time.Duration {
	if now.Sub(b.begun) >= time.Second {
		*b = budget{begun: now}
	}
	if b.spent++; b.spent <= framesPerSecond {
		return 0
	}
	next := b.begun.Add(time.Second)
	*b = budget{begun: next, spent: 1}
	return next.Sub(now)
}
