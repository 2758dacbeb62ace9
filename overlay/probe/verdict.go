// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Fault is what is wrong with the way between this host and another one.
type Fault string

// The faults. Out is the direction from this host to the other one.
const (
	None        Fault = ""
	Family      Fault = "family"       // the hosts' addresses are of different versions of IP
	Port        Fault = "port"         // they use different UDP ports
	Address     Fault = "address"      // another host has the other one's address, too, or this one has
	Blocked     Fault = "blocked"      // nothing comes from the other host
	BlockedOut  Fault = "blocked-out"  // its requests come, but no answers to this host's
	MTUOut      Fault = "mtu-out"      // large frames don't arrive there
	MTUIn       Fault = "mtu-in"       // large frames don't arrive here
	ChecksumOut Fault = "checksum-out" // frames arrive there with wrong checksums
	ChecksumIn  Fault = "checksum-in"  // frames arrive here with wrong checksums
	Loss        Fault = "loss"         // some frames don't arrive, by no rule that is known
)

// outcome is what has become of the requests of one shape.
type outcome struct {
	answered   bool
	spoiledOut bool // the request had a wrong checksum when it arrived there
	spoiledIn  bool // so had the answer when it arrived here
	took       time.Duration
}

func (o outcome) isGood() bool { return o.answered && !o.spoiledOut && !o.spoiledIn }

// outcomes are those of a round, by shape.
type outcomes [len(shapes)]outcome

// any reports whether is holds for one of the outcomes of the shapes that of chooses.
func (o outcomes) any(of func(shape) bool, is func(outcome) bool) bool {
	for i, s := range shapes {
		if of(s) && is(o[i]) {
			return true
		}
	}
	return false
}

// The shapes, by what their frames need to pass on the way out and back.
func all(shape) bool             { return true }
func offloadedOut(s shape) bool  { return !s.request.plain && !s.request.large && s.answer.plain }
func offloadedBoth(s shape) bool { return !s.request.large && !s.answer.plain }
func largeOut(s shape) bool      { return s.request.large && !s.answer.large }
func largeBoth(s shape) bool     { return s.answer.large }

func (o outcome) isAnswered() bool { return o.answered }
func (o outcome) isLost() bool     { return !o.answered }
func (o outcome) isBad() bool      { return !o.isGood() }
func (o outcome) isBadOut() bool   { return o.spoiledOut }
func (o outcome) isBadIn() bool    { return o.spoiledIn }

func (o outcomes) areGood() bool { return !o.any(all, outcome.isBad) }

// judge tells what the outcomes of a round mean. heard says that requests of the other host have come meanwhile.
//
// A checksum that a network card has spoiled inside of a packet makes that of the packet around it wrong, too, if that
// has one. The host then drops it before anybody sees it; what has its checksum from the kernel still comes.
func (o outcomes) judge(heard bool) Fault {
	passes := func(of func(shape) bool) bool { return o.any(of, outcome.isAnswered) }
	switch {
	case !passes(all) && heard:
		return BlockedOut
	case !passes(all):
		return Blocked
	case o.any(all, outcome.isBadOut), !passes(offloadedOut) && !passes(offloadedBoth):
		return ChecksumOut
	case o.any(all, outcome.isBadIn), !passes(offloadedBoth):
		return ChecksumIn
	case !passes(largeOut) && !passes(largeBoth):
		return MTUOut
	case !passes(largeBoth):
		return MTUIn
	case !o.areGood():
		return Loss
	}
	return None
}

// which names the shapes whose outcomes are so.
func (o outcomes) which(is func(outcome) bool) string {
	var names []string
	for i, s := range shapes {
		if is(o[i]) {
			name := s.request.String()
			if s.answer.large || !s.answer.plain {
				name += " and back"
			}
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// roundTrip returns how long a small frame took there and back: the shortest time of the round.
func (o outcomes) roundTrip() time.Duration {
	var least time.Duration
	for i, s := range shapes {
		if o[i].answered && !s.request.large && (least == 0 || o[i].took < least) {
			least = o[i].took
		}
	}
	return least
}

// facts are what a fault is told with.
type facts struct {
	host     Host
	twin     string     // host that has the address of host, too
	local    netip.Addr // VTEP of this host
	port     uint16     // UDP
	overhead int        // bytes of the underlay's packets around the frames of the MTU
	device   string     // link that goes to the other host
	outcomes outcomes
}

// describe tells people what is wrong, and what to do; empty: nothing is.
func (f Fault) describe(x facts) string {
	name := x.host.Name
	switch f {
	case Family:
		return fmt.Sprintf("its address %s and that of this host, %s, are of different versions of IP: "+
			"give all hosts addresses of one (--cluster-address)", x.host.VTEP, x.local)
	case Port:
		return fmt.Sprintf("it takes VXLAN packets at UDP port %d, and this host at %d: give all hosts the same "+
			"(--cluster-port)", x.host.Port, x.port)
	case Address:
		return fmt.Sprintf("its address %s is also that of %s, so that packets for one may get to the other: give "+
			"each host one of its own (--cluster-address)", x.host.VTEP, x.twin)
	case Blocked:
		return fmt.Sprintf("no VXLAN packets come from there: UDP port %d is blocked between the two, in one "+
			"direction or in both, or weave there can't answer: open it in the firewalls of both hosts and between "+
			"them, or see weave status there", x.port)
	case BlockedOut:
		return fmt.Sprintf("VXLAN packets come from there, but none arrive there: UDP port %d is blocked on the way "+
			"to %s: open it in the firewall there and in those between", x.port, name)
	case MTUOut:
		return "large frames don't arrive there, small ones do: " + x.narrow()
	case MTUIn:
		return "large frames from there don't arrive here, small ones do: " + x.narrow()
	case ChecksumOut:
		return fmt.Sprintf("frames arrive there with wrong checksums, so that containers there get nothing: the "+
			"checksum offload of %s is faulty: turn it off: ethtool -K %s tx off", x.device, x.device)
	case ChecksumIn:
		return fmt.Sprintf("frames from there arrive here with wrong checksums, so that containers here get nothing: "+
			"the checksum offload of %s's link with address %s is faulty: turn it off there: ethtool -K DEVICE tx off",
			name, x.host.VTEP)
	case Loss:
		return fmt.Sprintf("some frames get lost each time, others don't: %s: look for what filters between the two, "+
			"and try without checksum offload: ethtool -K %s tx off", x.outcomes.which(outcome.isLost), x.device)
	}
	return ""
}

// narrow tells that the way is narrower than the networks' MTU needs.
func (x facts) narrow() string {
	return fmt.Sprintf("MTU %d of the networks needs packets of %d bytes, which don't pass: enlarge the MTU of what "+
		"is between the two, or make the networks again on all hosts with a smaller works.weave.mtu",
		x.host.MTU, x.host.MTU+x.overhead)
}
