// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

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

// programProblems tells what networks lack because programs can't be used.
func (d *Driver) programProblems() []problem {
	var untagged, unguarded int
	var why error
	for _, nw := range d.tracked.Networks() {
		if err := d.tags(nw); err != nil && nw.Firewall == FirewallNone && !nw.Foreign {
			untagged++
			why = err
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

// portOf returns the programs of an endpoint's host end.
func portOf(nw Network, ep Endpoint) tc.Port {
	return tc.Port{
		Tag:                    nw.Tagged,
		NoRouterAdvertisements: nw.Guard != GuardOff && !ep.Router,
		NoDHCPAnswers:          nw.Guard == GuardOn && !ep.Router,
	}
}

// setPrograms sets the programs of a host end. Where programs are not supported it does nothing: Problems tells.
func (l links) setPrograms(link netlink.Link, port tc.Port) error {
	l.step("set programs")
	return supported(l.tc.SetPort(link, port))
}

// setBridgeProgram has a bridge deliver nothing to the host.
func (l links) setBridgeProgram(link netlink.Link) error {
	l.step("set bridge program")
	return supported(l.tc.SetBridge(link))
}

func supported(err error) error {
	if errors.Is(err, tc.ErrUnsupported) {
		return nil
	}
	return err
}
