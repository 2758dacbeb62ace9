// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/capture/filter"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/internal/announce"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

const (
	maxAskedNetworks  = 64          // networks on which addresses are asked for
	maxAskedAddresses = 256         // addresses of each
	askedAtOnce       = 8           // networks at a time
	answerTime        = time.Second // from the questions until the answers are read
	answerSize        = 128         // bytes of an answer that are read, which is longer than any
)

// holder is who has an address.
type holder struct {
	address netip.Addr
	owner   string        // for people
	macs    []mac.Address // by which it may answer
}

// member is an endpoint of a network with what was seen of it.
type member struct {
	endpoint
	seen inspect.Observation
}

// askAll asks on each network, from inside one of its containers, for the addresses of all of them.
func (c *Checker) askAll(ctx context.Context, networks []driver.Network, members map[driver.NetworkID][]member,
	bridges map[string]mac.Address,
) []asked {
	all := make([]asked, len(networks))
	var group errgroup.Group
	group.SetLimit(askedAtOnce)
	for i, nw := range networks {
		holders := holdersOf(nw, members[nw.ID], bridges[nw.Bridge])
		all[i] = asked{network: nw}
		if len(members[nw.ID]) == 0 {
			continue // and so nobody whom somebody else could hurt
		}
		all[i].total = len(holders)
		asker := slices.IndexFunc(members[nw.ID], func(m member) bool {
			return m.State() == driver.Up && m.seen.Inside != nil && m.seen.Inside.Up
		})
		if i >= maxAskedNetworks || asker < 0 {
			continue
		}
		holders = holders[:min(len(holders), maxAskedAddresses)]
		group.Go(func() error {
			all[i].asked = len(holders)
			all[i].others, all[i].err = c.ask(ctx, members[nw.ID], asker, holders)
			if all[i].err != nil {
				all[i].asked = 0
			}
			return nil
		})
	}
	_ = group.Wait() // none of the functions returns an error
	return all
}

// holdersOf returns who has addresses on a network: its endpoints, and its bridge if that has gateways.
func holdersOf(nw driver.Network, members []member, bridge mac.Address) (out []holder) {
	for _, g := range nw.OwnGateways() {
		out = append(out, holder{g.Addr(), "the network's gateway", []mac.Address{bridge}})
	}
	for _, m := range members {
		if m.Sandbox == "" {
			continue
		}
		macs := []mac.Address{m.MAC}
		if m.seen.Inside != nil {
			macs = append(macs, m.seen.Inside.MAC) // the container may have changed it, which is drift
		}
		for _, a := range nw.InContainer(m.Endpoint) {
			out = append(out, holder{a.Addr(), m.title(), macs})
		}
	}
	return out
}

// ask asks for addresses from inside a member's sandbox, and returns the answers of others than who has them.
func (c *Checker) ask(ctx context.Context, members []member, asker int, holders []holder) ([]answer, error) {
	m := members[asker]
	fd, err := c.o.Launcher.Packets(ctx, m.Sandbox)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	heard, err := askBy(ctx, fd, *m.seen.Inside, holders)
	if err != nil {
		return nil, err
	}
	heard.addOwn(*m.seen.Inside)
	return strangers(heard, holders, members), nil
}

// askBy asks by a packet socket out of a link, and returns all answers.
func askBy(ctx context.Context, fd int, inside netstate.Link, holders []holder) (claims, error) {
	link := capture.Link{Name: inside.Name, Index: inside.Index, Socket: fd}
	answers, err := filter.Parse("arp or icmp6")
	if err != nil {
		return nil, err
	}
	if err := link.Hear(answers, answerSize); err != nil {
		return nil, err
	}
	from := sourceOf(inside.Addresses)
	var questions [][]byte
	for _, h := range holders {
		if h.address.Is4() || from.IsValid() && h.address != from {
			questions = append(questions, announce.Question(inside.MAC, from, h.address))
		}
	}
	if err := announce.SendBy(fd, inside.Index, questions); err != nil {
		return nil, err
	}
	if !wait.For(ctx, answerTime) {
		return nil, ctx.Err()
	}
	frames, err := link.Heard()
	if err != nil {
		return nil, err
	}
	heard := claims{}
	for _, f := range frames {
		if by, a, ok := announce.Answer(f); ok {
			heard[claim{a, by}] = true
		}
	}
	return heard, nil
}

// sourceOf returns the address that neighbour solicitations are sent from: a link-local one if there is any.
func sourceOf(addresses []netip.Prefix) (from netip.Addr) {
	for _, a := range addresses {
		if a.Addr().Is6() && (!from.IsValid() || a.Addr().IsLinkLocalUnicast()) {
			from = a.Addr()
		}
	}
	return from
}

// claim is an answer to a question.
type claim struct {
	address netip.Addr
	mac     mac.Address
}

// claims are answers, each once.
type claims map[claim]bool

// addOwn adds what the asker itself would answer: nobody hears its own questions.
func (c claims) addOwn(inside netstate.Link) {
	for _, a := range inside.Addresses {
		c[claim{a.Addr(), inside.MAC}] = true
	}
}

// strangers returns the answers by others than who has the addresses that were asked for.
func strangers(heard claims, holders []holder, members []member) (out []answer) {
	for h := range heard {
		i := slices.IndexFunc(holders, func(x holder) bool { return x.address == h.address })
		if i < 0 || slices.Contains(holders[i].macs, h.mac) {
			continue
		}
		who := "whom weave does not know"
		for _, m := range members {
			if m.MAC == h.mac || m.seen.Inside != nil && m.seen.Inside.MAC == h.mac {
				who = "which is " + m.title()
			}
		}
		out = append(out, answer{h.address, holders[i].owner, h.mac.String(), who})
	}
	slices.SortFunc(out, func(a, b answer) int { return a.address.Compare(b.address) })
	return out
}
