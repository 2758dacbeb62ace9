// SPDX-License-Identifier: Apache-2.0

// Package check finds out why a container does not reach another one: it walks the way between them and back, looks at
// each layer, probes from inside and watches how far the probes get, and names the first layer that fails.
//
// It runs in the host's network namespace. Probes leave from a container's by sockets that nsproc has opened there.
package check

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/check/drops"
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
	To      *End       // nil: the address is of nobody that weave knows on this host
	Address netip.Addr // of To, of a family that From has, too
	Port    uint16     // TCP; 0: none

	Host string       // the other host that the address is on; empty: this one, or it is not known
	Name string       // by which From asks for To, also on another host; empty: it knows the address
	Own  []netip.Addr // all addresses that the name may stand for, on whichever network

	Quick bool // the kernel is not asked what it drops, which takes 50 ms of a processor
}

// Rules lists the rules of the host that keep packets from arriving as they were sent. driver.Driver is one.
type Rules interface {
	SuspectRules(context.Context) ([]firewall.Suspect, error)
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
	resolved   answer
	risen      []firewall.Suspect // that have counted packets meanwhile
	silent     []firewall.Suspect // that don't count
	rulesError error
	drops      []drops.Drop // what the kernel has dropped on the way meanwhile
	watched    bool         // that is known
	dropsError error        // why it is not
	namespaces namespaces
}

// Check finds out whether From reaches the address, and which layer fails if not.
func (c *Checker) Check(ctx context.Context, q Question) Result {
	f := facts{Question: q}
	before, err := c.rules.SuspectRules(ctx)
	f.rulesError = err
	c.probe(ctx, &f)
	if !f.answered() {
		after, err := c.rules.SuspectRules(ctx)
		before, after = slices.DeleteFunc(before, q.passes), slices.DeleteFunc(after, q.passes)
		f.risen, f.silent = risen(before, after), uncounted(after)
		if err != nil {
			f.rulesError = err
		}
	}
	// After the probes, so that it has what they have found of neighbours and stations.
	f.from = c.inspector.Examine(ctx, q.From.Endpoint)
	if q.To != nil {
		f.to = c.inspector.Examine(ctx, q.To.Endpoint)
	}
	return judge(f)
}

// probe asks for the name and sends the probes, and watches how far they get.
func (c *Checker) probe(ctx context.Context, f *facts) {
	sockets, err := c.launcher.Probes(ctx, f.From.Endpoint.Sandbox, f.Address.Is6())
	if err != nil {
		f.unprobed = err
		return
	}
	p := newProber(sockets, f.Address, f.Port, f.From.Network.MTU)
	defer p.close()
	if f.Name != "" {
		f.resolved = p.ask(ctx, f.Name)
	}
	w := c.watchWay(ctx, f.Question, p)
	defer w.close()
	stop := f.watchDrops(ctx, c.launcher.Sandboxes())
	probes := p.probe(ctx)
	stop()
	probes.trails = w.trails()
	f.probes = &probes
}

// risen returns the rules that have counted packets between two listings. Of those that read the same, the first one
// of one listing is the first one of the other.
func risen(before, after []firewall.Suspect) (rules []firewall.Suspect) {
	type key struct {
		table, text string
		n           int // how many before it read the same
	}
	keys := func(rules []firewall.Suspect) (all []key) {
		seen := map[key]int{}
		for _, r := range rules {
			k := key{table: r.Table, text: r.Text}
			seen[k]++
			all = append(all, key{r.Table, r.Text, seen[k]})
		}
		return all
	}
	was := map[key]uint64{}
	for i, k := range keys(before) {
		was[k] = before[i].Packets
	}
	for i, k := range keys(after) {
		if n, ok := was[k]; ok && after[i].Counted && after[i].Packets > n {
			rules = append(rules, after[i])
		}
	}
	return rules
}

// passes reports whether packets on the way pass a rule without being seen by it, or without harm: the way out
// translates addresses, such as Docker's own.
func (q Question) passes(s firewall.Suspect) bool {
	if q.To == nil {
		return s.Rewrites
	}
	return s.OfHost || q.From.Network.Tagged && !s.OfLink
}

// uncounted returns the rules that don't count what they match.
func uncounted(all []firewall.Suspect) (rules []firewall.Suspect) {
	for _, r := range all {
		if !r.Counted {
			rules = append(rules, r)
		}
	}
	return rules
}

// String says what was asked.
func (q Question) String() string {
	to := q.Address.String()
	switch {
	case q.To != nil:
		to = fmt.Sprintf("%s (%s)", q.To.Name, q.Address)
	case q.Host != "":
		to = fmt.Sprintf("%s on host %s", q.Address, q.Host)
	}
	if q.Port > 0 {
		to = fmt.Sprintf("%s, TCP port %d", to, q.Port)
	}
	return fmt.Sprintf("from %s to %s", q.From.Name, to)
}
