// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver/firewall"
)

// ofBridge judges whether the bridge sends frames for the receiver to its port.
func ofBridge(f facts) api.Checked {
	if f.To == nil || f.to.Host == nil || f.from.Host == nil {
		return unknown("the way over the bridge is not known")
	}
	for _, e := range []struct {
		end  End
		port string
		host string
	}{
		{*f.To, f.to.Port, f.to.Host.Name}, {f.From, f.from.Port, f.from.Host.Name},
	} {
		if e.port != "" && e.port != e.host {
			return failed("another station has sent with that MAC, or somebody has entered it: "+
				"bridge fdb show br "+e.end.Network.Bridge,
				"%s sends frames for %s, %s, to %s instead of %s",
				e.end.Network.Bridge, e.end.Name, e.end.Endpoint.MAC, e.port, e.host)
		}
	}
	on, back := f.lost()
	if on == inHost && len(f.risen)+len(f.silent) == 0 && f.rulesError == nil && !f.ruleDrops() {
		return failed("see tc -s qdisc show and tc filter show for both host ends, bridge -d link, bridge vlan",
			"%s come to %s and don't leave it, and the host has no rule that drops them",
			f.packets(back), f.From.Network.Bridge)
	}
	return ok("%s has both host ends as its ports", f.From.Network.Bridge)
}

// packets names what got lost, for people.
func (f facts) packets(back bool) string {
	switch {
	case back && f.To == nil:
		return "the answers of " + f.Address.String()
	case back:
		return "the answers of " + f.To.Name
	case f.To == nil:
		return fmt.Sprintf("packets of %s for %s", f.From.Name, f.Address)
	}
	return fmt.Sprintf("packets of %s for %s", f.From.Name, f.To.Name)
}

// ofFirewall judges by the counters of the host's rules, and by how far the probes have come.
func ofFirewall(f facts) api.Checked {
	on, back := f.lost()
	passed := on != unseen && on != inHost && on != beyond
	const advice = "remove the rule, or let the network's packets pass before it"
	switch {
	case f.answered() || passed:
		return ok("no rule of the host drops the packets")
	case f.probes == nil:
		return unknown("nothing was sent that a rule could drop")
	case len(f.risen) > 0 && f.risen[0].Rewrites:
		return failed(advice, "rewrote packets while the probes were sent: %s", list(f.risen))
	case len(f.risen) > 0 && f.To != nil && f.watched && !f.ruleDrops():
		return unknown("rules have dropped packets meanwhile, but none of these, as the kernel says: %s", list(f.risen))
	case len(f.risen) > 0:
		return failed(advice, "dropped or refused packets while the probes were sent: %s", list(f.risen))
	case on == inHost && len(f.silent) > 0:
		return failed(advice+"; with a counter in each it is known which one it is",
			"%s come to the host and don't leave it; it has rules that don't count what they match: %s",
			f.packets(back), list(f.silent))
	case f.ruleDrops():
		return failed("find it with nft list ruleset, iptables-save or ebtables-save, and remove it",
			"a rule of the host drops packets, or refuses them, but none has counted that")
	case f.rulesError != nil:
		return unknown("the host's rules can't be read: %v", f.rulesError)
	}
	return unknown("no rule of the host that counts has dropped a packet meanwhile")
}

// maxListed is how many rules a line has.
const maxListed = 3

// list returns rules for people.
func list(rules []firewall.Suspect) string {
	var all []string
	for _, r := range rules[:min(len(rules), maxListed)] {
		all = append(all, r.Table+": "+r.Text)
	}
	if more := len(rules) - maxListed; more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, "; ")
}

// ofListener judges whether somebody takes connections to the port.
func ofListener(f facts) api.Checked {
	if f.Port == 0 {
		return unknown("no port was named")
	}
	if f.probes != nil && f.probes.TCP == nil {
		return ok("port %d is open", f.Port)
	}
	if f.To == nil || f.to.Sandbox == nil || !f.to.Sandbox.HasSockets {
		return unknown("who listens at %s is not known", f.Address)
	}
	var elsewhere []string
	for _, s := range f.to.Sandbox.Sockets {
		if s.Protocol != "tcp" || s.Local.Port() != f.Port {
			continue
		}
		if local := s.Local.Addr(); local.IsUnspecified() || local.Unmap() == f.Address {
			if s.Queued > 0 && f.probes != nil && errors.Is(f.probes.TCP, errNoAnswer) {
				return failed("the program is stuck: "+f.To.Name+" has to be looked at",
					"%s listens at %s, but %d connections wait for the program", f.To.Name, s.Local, s.Queued)
			}
			return ok("%s listens at %s", f.To.Name, s.Local)
		}
		elsewhere = append(elsewhere, s.Local.Addr().String())
	}
	if len(elsewhere) > 0 {
		return failed("have the program listen at 0.0.0.0 or ::", "%s listens at port %d of %s only, not of %s",
			f.To.Name, f.Port, strings.Join(elsewhere, ", "), f.Address)
	}
	return failed("start the program, or see which port it listens at: weave inspect "+f.To.Name,
		"nobody listens at port %d in %s", f.Port, f.To.Name)
}

// ofConnection judges the answers to the probes.
func ofConnection(f facts) api.Checked {
	switch {
	case f.probes == nil:
		return unknown("no probe was sent: %v", f.unprobed)
	case f.Port > 0 && f.probes.TCP == nil:
		return ok("port %d of %s takes a connection", f.Port, f.Address)
	case f.Port > 0 && refused(f.probes.TCP) && !f.rejected():
		return failed("a firewall in the container, or another program with that address, refuses",
			"port %d of %s refuses the connection", f.Port, f.Address)
	case f.answered():
		return ok("%s answers a ping", f.Address)
	}
	what := fmt.Sprintf("a ping to %s: %v", f.Address, f.probes.Small)
	if f.Port > 0 {
		what = fmt.Sprintf("a connection to port %d of %s: %v", f.Port, f.Address, f.probes.TCP)
	}
	on, back := f.lost()
	where, advice := f.where(on, back)
	if where == "" {
		return failed(advice, "%s", what)
	}
	return failed(advice, "%s: %s", what, where)
}

// where says on which stretch packets got lost, for people, and what to do.
func (f facts) where(on stretch, back bool) (where, advice string) {
	const inside = "see iptables -S, nft list ruleset and sysctl net.ipv4.conf.all.rp_filter in the container"
	packets := f.packets(back)
	switch on {
	case inReceiver:
		return fmt.Sprintf("%s came to the link in %s, which dropped them without an answer", packets, f.To.Name),
			"a firewall in " + f.To.Name + ": " + inside
	case inSender:
		return fmt.Sprintf("%s came to the link in %s, which dropped them", packets, f.From.Name),
			"a firewall in " + f.From.Name + ": " + inside
	case senderLink:
		return fmt.Sprintf("%s got lost between %s's two ends", packets, f.From.Name),
			"see tc qdisc show and tc filter show at " + f.From.Endpoint.HostEnd + " and in the container"
	case receiverLink:
		return fmt.Sprintf("%s got lost between %s's two ends", packets, f.To.Name),
			"see tc qdisc show and tc filter show at " + f.To.Endpoint.HostEnd + " and in the container"
	case inHost:
		return fmt.Sprintf("%s came to the host and did not leave it", packets),
			"look for rules that drop: nft list ruleset, iptables-save, ebtables-save"
	case beyond:
		return fmt.Sprintf("%s left %s, and nothing came back", packets, f.From.Endpoint.HostEnd),
			f.further()
	}
	return "", "look where packets get lost: weave capture " + f.From.Name
}

// further says where to look for what got lost behind the sender's host end.
func (f facts) further() string {
	if f.Host != "" {
		return "see the tunnel with weave hosts, and run weave check on " + f.Host + ", to and from the same containers"
	}
	return "look further on the way: the host's routes and rules; of another host of the cluster, weave hosts"
}

// ofSize judges whether full-size packets pass, where small ones do.
func ofSize(f facts) api.Checked {
	switch {
	case f.probes == nil || f.probes.Small != nil:
		return unknown("%s answers no ping, so it is not known whether large packets pass", f.Address)
	case f.probes.Full == nil:
		return ok("packets of %d bytes pass", f.probes.Size)
	}
	what := fmt.Sprintf("packets of %d bytes get no answer, small ones do: %v", f.probes.Size, f.probes.Full)
	if where, _ := f.where(f.probes.trails[kindFull].lost()); where != "" {
		what += ": " + where
	}
	advice := "see the MTU of both ends: ip link; between hosts: weave hosts"
	if f.to.Inside != nil && f.from.Inside != nil && f.to.Inside.MTU != f.from.Inside.MTU {
		advice = fmt.Sprintf("%s has an MTU of %d, %s of %d: set both to the network's, %d", f.From.Name,
			f.from.Inside.MTU, f.To.Name, f.to.Inside.MTU, f.From.Network.MTU)
	}
	return failed(advice, "%s", what)
}
