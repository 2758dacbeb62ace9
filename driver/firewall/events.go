// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nlevents"
	"github.com/weaveplugin/weave/internal/wait"
)

// resubscribePause is how long watchEvents waits before it subscribes again; it doubles up to fullInterval.
const resubscribePause = time.Second

// subscription receives events of the kernel; a *nl.NetlinkSocket is one.
type subscription interface {
	Receive() ([]syscall.NetlinkMessage, *unix.SockaddrNetlink, error)
	Close()
}

// watchEvents notifies Run of changes to nftables that may concern its rules, until ctx ends. It replaces a
// subscription that fails. While there is none (a kernel without nf_tables), Run still looks at intervals.
func (f *Firewall) watchEvents(ctx context.Context, subscribe func() (subscription, error)) {
	logged := "" // the failure that lasts; empty: none
	pause := resubscribePause
	for {
		events, err := subscribe()
		if err == nil {
			if logged != "" {
				f.log.Info("firewall rules are watched again")
			}
			logged, pause = "", resubscribePause
			err = receive(ctx, events, f.changed)
		}
		if ctx.Err() != nil {
			return
		}
		if err.Error() != logged {
			logged = err.Error()
			f.log.WithError(err).
				Warn("firewall rules are only looked at now and then until the kernel's events can be received again")
		}
		if !wait.For(ctx, pause) {
			return
		}
		pause = min(2*pause, fullInterval)
	}
}

// subscribe subscribes to the kernel's events about nftables, which are sent for the rules of iptables-nft, too.
func subscribe() (subscription, error) {
	socket, err := nlevents.Subscribe(nlevents.Options{
		Protocol: unix.NETLINK_NETFILTER, Groups: []int{unix.NFNLGRP_NFTABLES},
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to nftables events: %w", err)
	}
	return socket, nil
}

// receive reads events until ctx ends or reading fails, notifies changed of those that matter, and closes the
// subscription.
func receive(ctx context.Context, events subscription, changed chan<- struct{}) error {
	defer wait.CloseAfter(ctx, events)() // the end of ctx ends Receive
	wait.Signal(changed)                 // what happened before the subscription is unknown
	for {
		messages, _, err := events.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS): // events were lost, so anything may have happened
			wait.Signal(changed)
		case err != nil:
			return fmt.Errorf("receive nftables events: %w", err)
		case slices.ContainsFunc(messages, mayConcernRules):
			wait.Signal(changed)
		}
	}
}

// mayConcernRules reports whether an event can mean that a chain has changed that weave has rules in, or is new. Most
// events can't: for each container with a published port Docker changes rules in chains of its own.
func mayConcernRules(m syscall.NetlinkMessage) bool {
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
	// The kernel pads attributes to a multiple of four bytes, and ParseRouteAttr panics where the last one is not.
	const nfgenmsgLen = 4 // struct nfgenmsg precedes the attributes
	if len(m.Data) < nfgenmsgLen || len(m.Data)%int(nl.NLA_ALIGNTO) != 0 {
		return true
	}
	attributes, err := nl.ParseRouteAttr(m.Data[nfgenmsgLen:])
	if err != nil {
		return true
	}
	for _, a := range attributes {
		name := unix.ByteSliceToString(a.Value)
		switch a.Attr.Type & nl.NLA_TYPE_MASK {
		case unix.NFTA_RULE_TABLE:
			if strings.HasPrefix(name, ownTablePrefix) {
				return true
			}
		case unix.NFTA_RULE_CHAIN:
			return nftChains[name]
		}
	}
	return true
}

// nftChains are the names of the chains of others that weave has rules in.
var nftChains = func() map[string]bool {
	names := map[string]bool{}
	for where := range nftKinds {
		names[where[1]] = true
	}
	return names
}()
