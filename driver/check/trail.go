// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/capture/filter"
)

// place is one on the way at which packets are watched.
type place int

// The places, in the order of the way there.
const (
	fromInside place = iota // the container end of the sender
	fromHost                // its host end
	toHost                  // the host end of the receiver
	toInside                // its container end
	places
)

// sighting is what of a probe was seen at a place.
type sighting struct {
	watched     bool
	there, back bool // its packets, and the answers to them
}

// trail is what of a probe was seen at the places.
type trail [places]sighting

// stretch is a part of the way.
type stretch int

// The stretches on which a packet can get lost.
const (
	unseen       stretch = iota // it is not known
	inSender                    // the answers came to the container, which did not take them
	senderLink                  // between the two ends of the sender's veth pair
	inHost                      // between the two host ends: bridge and firewall
	beyond                      // behind the sender's host end, where nothing was watched
	receiverLink                // between the two ends of the receiver's veth pair
	inReceiver                  // they came to the container, which sent no answer
)

// lost returns on which stretch packets, or with back the answers to them, got lost.
func (t trail) lost() (on stretch, back bool) {
	last, watched := -1, -1
	for p, s := range t {
		if s.watched {
			watched = p
		}
		if s.there {
			last = p
		}
	}
	switch {
	case last < 0:
		return unseen, false
	case last < watched:
		return behind(place(last)), false
	case place(last) == toInside && !t[toInside].back:
		return inReceiver, false
	case place(last) < toHost && !t[last].back:
		return beyond, false
	}
	for p := place(last); p > fromInside; p-- {
		if t[p].back && t[p-1].watched && !t[p-1].back {
			return behind(p - 1), true
		}
	}
	if t[fromInside].back {
		return inSender, true
	}
	return unseen, false
}

// behind returns the stretch that follows a place.
func behind(p place) stretch { return [...]stretch{senderLink, inHost, receiverLink, inReceiver}[p] }

// watch is what listens for a prober's probes at the places.
type watch struct {
	prober *prober
	links  [places]*capture.Link // nil: the place is not watched
}

// watchWay begins to watch the way of probes. What can't be watched is left out: less is known then.
func (c *Checker) watchWay(ctx context.Context, q Question, p *prober) *watch {
	w := &watch{prober: p}
	w.links[fromInside], w.links[fromHost] = c.listen(ctx, q.From)
	if q.To != nil {
		w.links[toInside], w.links[toHost] = c.listen(ctx, *q.To)
	}
	const size = 128 // bytes: as many as the headers take
	for i, l := range w.links {
		if l != nil && l.Hear(p.filter(), size) != nil {
			unix.Close(l.Socket)
			w.links[i] = nil
		}
	}
	return w
}

// listen opens sockets at both ends of an endpoint; nil: there is none.
func (c *Checker) listen(ctx context.Context, e End) (inside, host *capture.Link) {
	links, _, err := c.inspector.Listen(ctx, e.Endpoint, e.Name)
	switch {
	case err != nil:
		return nil, nil
	case len(links) == 1:
		return nil, &links[0]
	}
	return &links[0], &links[1]
}

// filter is true of what may be a probe, or an answer to one.
func (p *prober) filter() filter.Expr {
	what := "icmp or icmp6"
	if p.local > 0 {
		what += fmt.Sprintf(" or tcp port %d", p.local)
	}
	e, err := filter.Parse(fmt.Sprintf("host %s and (%s)", p.to.Addr(), what))
	if err != nil {
		panic(err) // it is the same but for numbers
	}
	return e
}

func (w *watch) close() {
	for _, l := range w.links {
		if l != nil {
			unix.Close(l.Socket)
		}
	}
}

// trails returns what was seen of the probes.
func (w *watch) trails() (all [kinds]trail) {
	for place, l := range w.links {
		if l == nil {
			continue
		}
		frames, err := l.Heard()
		for k := range all {
			all[k][place].watched = err == nil
		}
		for _, b := range frames {
			m := read(b)
			if k, ok := w.prober.kindOf(m); ok {
				s := &all[k][place]
				s.there = s.there || m.to == w.prober.to.Addr()
				s.back = s.back || m.from == w.prober.to.Addr()
			}
		}
	}
	return all
}

// kindOf returns the kind of probe that a message is of, or is the answer to.
func (p *prober) kindOf(m message) (kind, bool) {
	if m.isTCP {
		ours := m.ports == [2]uint16{p.local, p.to.Port()} || m.ports == [2]uint16{p.to.Port(), p.local}
		return kindConnect, ours && p.local > 0
	}
	k := kind(m.seq)
	return k, m.isEcho && m.id == p.id && (k == kindSmall || k == kindFull)
}

// message is what matters of a packet.
type message struct {
	from, to netip.Addr
	isTCP    bool
	ports    [2]uint16 // source and destination
	isEcho   bool      // an echo request, or the answer to one
	id, seq  uint16
}

// read reads the beginning of a frame.
func read(frame []byte) (m message) {
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	network := packet.NetworkLayer()
	if network == nil {
		return m
	}
	m.from, _ = netip.AddrFromSlice(network.NetworkFlow().Src().Raw())
	m.to, _ = netip.AddrFromSlice(network.NetworkFlow().Dst().Raw())
	for _, l := range packet.Layers() {
		switch l := l.(type) {
		case *layers.TCP:
			m.isTCP, m.ports = true, [2]uint16{uint16(l.SrcPort), uint16(l.DstPort)}
		case *layers.ICMPv4:
			t := l.TypeCode.Type()
			m.isEcho = t == layers.ICMPv4TypeEchoRequest || t == layers.ICMPv4TypeEchoReply
			m.id, m.seq = l.Id, l.Seq
		case *layers.ICMPv6Echo:
			m.isEcho, m.id, m.seq = true, l.Identifier, l.SeqNumber
		}
	}
	return m
}
