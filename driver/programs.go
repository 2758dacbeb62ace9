// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/weaveplugin/weave/driver/tc"
)

// filterTagged is 1 where somebody wants br_netfilter to send tagged frames through the host's rules, too. It is not
// there without br_netfilter.
const filterTagged = "/proc/sys/net/bridge/bridge-nf-filter-vlan-tagged"

// tags returns why the frames of a network are not to be tagged; nil if they are. It does not look at the bridge's
// ports.
func (d *Driver) tags(nw Network) error {
	if nw.Firewall != FirewallNone || nw.Foreign {
		return errors.New("the network obeys the host's rules")
	}
	if err := d.links.tc.Problem(); err != nil {
		return err
	}
	if value, err := os.ReadFile(filterTagged); err == nil && strings.TrimSpace(string(value)) != "0" {
		return fmt.Errorf("%s is not 0", filterTagged)
	}
	return nil
}

// programProblems tells what networks lack because frames can't be tagged, or because programs can't be used.
func (d *Driver) programProblems(networks []Network) []problem {
	var untagged, unguarded int
	var why error
	for _, nw := range networks {
		if nw.Firewall == FirewallNone && !nw.Foreign && !nw.Tagged {
			untagged++
			if why = d.tags(nw); why == nil {
				why = fmt.Errorf("bridge %s has ports that are not weave's", nw.Bridge)
			}
		}
		if nw.Guard != GuardOff {
			unguarded++
		}
	}
	var out []problem
	if untagged > 0 {
		out = append(out, problem{"firewall", fmt.Errorf(
			"the frames inside %d networks pass the host's rules, which may drop or change them: %w", untagged, why)})
	}
	if err := d.links.tc.Problem(); err != nil && unguarded > 0 {
		out = append(out, problem{"guard", fmt.Errorf(
			"containers on %d networks can send router advertisements to each other: %w", unguarded, err)})
	}
	return out
}

// portOf returns what is done at an endpoint's host end. A host end that an earlier version of weave has made without
// programs stays so while that is possible: the first program that a link gets costs it the packets of some
// milliseconds, since the kernel stops the link for it (qdisc_graft).
func portOf(nw Network, ep Endpoint) tc.Port {
	if !ep.Programs && !nw.Tagged {
		return tc.Port{}
	}
	return tc.Port{
		Tag:                    nw.Tagged,
		NoRouterAdvertisements: nw.Guard != GuardOff && !ep.Router,
		NoDHCPAnswers:          nw.Guard == GuardOn && !ep.Router,
	}
}

// programs is the property that a link has these tc programs. Where they are not supported it is in order: Problems
// tells of that.
var programs = property{"tc programs", wrongPrograms, setPrograms}

func wrongPrograms(have *hostLink, want wanted) string {
	switch {
	case have.programs == nil || *have.programs == want.programs:
		return ""
	case *have.programs == tc.Attached{}:
		return "tc programs missing"
	}
	return fmt.Sprintf("tc programs %q, not %q", *have.programs, want.programs)
}

func setPrograms(l links, have *hostLink, want wanted) error {
	l.step("set tc programs")
	switch err := l.tc.Set(have, *have.programs, want.programs); {
	case errors.Is(err, tc.ErrUnsupported):
		have.programs = nil
	case err != nil:
		return err
	default:
		have.programs = &want.programs
	}
	return nil
}

// lookAtPrograms looks which programs a link has, if that is not known and they are supported.
func (l links) lookAtPrograms(have *hostLink) error {
	if have.programs != nil || l.tc.Problem() != nil {
		return nil
	}
	attached, err := tc.Look(have)
	if err != nil {
		return err
	}
	have.programs = &attached
	return nil
}
