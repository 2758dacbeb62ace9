// SPDX-License-Identifier: Apache-2.0

// Package check finds out why a container does not reach another one: it walks the way between them, looks at each
// layer and probes from inside, and names the first layer that fails.
//
// It runs in the host's network namespace. Probes leave from a container's by sockets that nsproc has opened there.
package check

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/nsproc/launch"
)

// End is one end of the way: an endpoint of this host.
type End struct {
	Name     string // of its container, for people
	Network  driver.Network
	Endpoint driver.Endpoint
}

// Question is what is checked: whether From reaches an address of To's, and a port of it.
type Question struct {
	From    End
	To      *End       // nil: the address is of nobody that weave knows here
	Address netip.Addr // of To, of a family that From has, too
	Port    uint16     // TCP; 0: none
}

// Rules lists the rules of the host that drop packets. driver.Driver is one.
type Rules interface {
	DroppingRules(context.Context) ([]firewall.Rule, error)
}

// Checker answers questions. Its methods may be called from several goroutines at once.
type Checker struct {
	inspector *inspect.Inspector
	launcher  *launch.Launcher
	rules     Rules
}

// New returns a Checker.
func New(i *inspect.Inspector, l *launch.Launcher, r Rules) *Checker { return &Checker{i, l, r} }

// facts are what was found.
type facts struct {
	Question
	from, to   inspect.Examination
	probes     *Probes // nil: see unprobed
	unprobed   error
	dropped    []firewall.Rule // that have counted packets meanwhile
	rulesError error
}

// Check finds out whether From reaches the address, and which layer fails if not.
func (c *Checker) Check(ctx context.Context, q Question) Result {
	f := facts{Question: q}
	before, err := c.rules.DroppingRules(ctx)
	f.rulesError = err
	sockets, err := c.launcher.Probes(ctx, q.From.Endpoint.Sandbox, q.Address.Is6())
	if err != nil {
		f.unprobed = err
	} else {
		p := probe(ctx, sockets, q.Address, q.Port, q.From.Network.MTU)
		f.probes = &p
	}
	if f.rulesError == nil {
		after, err := c.rules.DroppingRules(ctx)
		f.dropped, f.rulesError = risen(before, after), err
	}
	// After the probes, so that it has what they have found of neighbours and stations.
	f.from = c.inspector.Examine(ctx, q.From.Endpoint)
	if q.To != nil {
		f.to = c.inspector.Examine(ctx, q.To.Endpoint)
	}
	return judge(f)
}

// risen returns the rules that have counted packets between two listings.
func risen(before, after []firewall.Rule) (rules []firewall.Rule) {
	for _, r := range after {
		was := slices.IndexFunc(before, func(b firewall.Rule) bool { return b.Table == r.Table && b.Text == r.Text })
		if was >= 0 && r.Counted && r.Packets > before[was].Packets {
			rules = append(rules, r)
		}
	}
	return rules
}

// String says what was asked.
func (q Question) String() string {
	to := q.Address.String()
	if q.To != nil {
		to = fmt.Sprintf("%s (%s)", q.To.Name, q.Address)
	}
	if q.Port > 0 {
		to = fmt.Sprintf("%s, TCP port %d", to, q.Port)
	}
	return fmt.Sprintf("from %s to %s", q.From.Name, to)
}
