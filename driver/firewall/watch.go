package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	settleTime     = 100 * time.Millisecond // from an event to the look: changes come in bursts
	legacyInterval = time.Second            // between looks at legacy tables, of which the kernel sends no events
	fullInterval   = 30 * time.Second       // between looks at everything, whatever was heard
	redialPause    = time.Second            // before the events are subscribed to again; doubles up to fullInterval
	retryPause     = time.Second            // after rules could not be kept
)

// Run keeps the rules until ctx ends, and returns nil then. When somebody flushes or reloads the rules, puts others
// before them, or the Engine moves to the other back end, they are written anew: at once where the kernel tells of it
// (nft), else within a second or, if the Engine moves to a legacy table that was there before, within 30.
func (f *Firewall) Run(ctx context.Context) error {
	events := make(chan struct{}, 1)
	var listener sync.WaitGroup
	listener.Go(func() { f.listen(ctx, dialEvents, events) })
	defer listener.Wait()
	legacyTick := time.NewTicker(legacyInterval)
	defer legacyTick.Stop()
	fullTick := time.NewTicker(fullInterval)
	defer fullTick.Stop()

	settled := time.After(0)
	lastErr := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			if settled == nil {
				settled = time.After(settleTime)
			}
			continue
		case <-settled:
			settled = nil
		case <-legacyTick.C:
			if !f.legacyDue(ctx) {
				continue
			}
		case <-fullTick.C:
		}
		text := ""
		if err := f.repair(ctx); err != nil && ctx.Err() == nil {
			settled = time.After(retryPause)
			text = err.Error()
			if text != lastErr {
				f.log.WithError(err).Error("firewall rules could not be kept; containers of one network may not reach each other")
			}
		}
		lastErr = text
	}
}

// repair puts back what is missing.
func (f *Firewall) repair(ctx context.Context) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if len(f.wanted) == 0 {
		return nil
	}
	return f.sync(ctx, logrus.WarnLevel)
}

// legacyDue tells if something about the legacy tables calls for a repair. Where they don't matter it runs no command.
func (f *Firewall) legacyDue(ctx context.Context) bool {
	if f.acquire(ctx) != nil {
		return false
	}
	defer f.release()
	present := legacyTable(false) || legacyTable(true)
	if present != f.legacySeen {
		return true
	}
	if !present || !f.legacyWatch || len(f.wanted) == 0 {
		return false
	}
	for _, t := range f.tables {
		if t.backend != legacy {
			continue
		}
		v := t.look(ctx)
		spoilt := f.inUse[legacy] && v.err == nil && len(plan(v.chain, f.wanted, f.owner()).commands) > 0
		if spoilt || v.engine && !f.inUse[legacy] {
			return true
		}
	}
	return false
}

// listen puts a token into heard when something happened to a FORWARD chain since it was last taken out, until ctx ends.
// A subscription that fails is made anew. While there is none (a kernel without nf_tables) there are still the looks at
// intervals.
func (f *Firewall) listen(ctx context.Context, dial func() (*netlink.Conn, error), heard chan<- struct{}) {
	var told string // of the failure that lasts; empty: none
	pause := redialPause
	for {
		conn, err := dial()
		if err == nil {
			if told != "" {
				f.log.Info("firewall rules are watched again")
			}
			told, pause = "", redialPause
			err = receive(ctx, conn, heard)
		}
		if ctx.Err() != nil {
			return
		}
		if err.Error() != told {
			told = err.Error()
			f.log.WithError(err).Warn("firewall rules are only looked at now and then until the kernel's events are heard again")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, fullInterval)
	}
}

// dialEvents subscribes to the kernel's events about nftables, which iptables-nft's rules are too.
func dialEvents() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err == nil {
		if err = conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
			err = errors.Join(err, conn.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to nftables events: %w", err)
	}
	return conn, nil
}

// receive reads events until ctx ends or reading fails, and closes the connection.
func receive(ctx context.Context, conn *netlink.Conn, heard chan<- struct{}) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { conn.Close(); close(closed) })
	defer func() {
		if stop() {
			conn.Close()
		} else {
			<-closed
		}
	}()
	concerned := true // what happened before the subscription was not heard
	for {
		if concerned {
			select {
			case heard <- struct{}{}:
			default: // a token is there
			}
		}
		messages, err := conn.Receive()
		switch {
		case err == nil:
			concerned = slices.ContainsFunc(messages, concerns)
		case errors.Is(err, unix.ENOBUFS): // events were lost, so anything may have happened
			concerned = true
		default:
			return fmt.Errorf("receive nftables events: %w", err)
		}
	}
}

// concerns tells if an event can mean that rules in a FORWARD chain are gone, or that the Engine's chains have come. Most
// can't: each container with a published port changes rules in Docker's own chains.
func concerns(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return false
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		return true
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
	default:
		return false
	}
	const nfgenmsgLen = 4 // struct nfgenmsg precedes the attributes
	if len(m.Data) < nfgenmsgLen {
		return true
	}
	attributes, err := netlink.NewAttributeDecoder(m.Data[nfgenmsgLen:])
	if err != nil {
		return true
	}
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_RULE_CHAIN {
			return attributes.String() == chainName
		}
	}
	return true
}
