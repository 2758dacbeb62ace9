// SPDX-License-Identifier: Apache-2.0

// Package hostcheck looks at what weave depends on of the host: the kernel, weave's own rights, rules and settings of
// others, what may run out, and what Docker knows. It changes nothing.
//
// It runs in the host's network namespace. Questions for addresses leave from a container's by sockets that nsproc has
// opened there. What is judged is a fact that was gathered before: all judges are pure functions.
package hostcheck

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netnsid"
)

// Tracker knows what weave tracks, and the host's chains of rules. driver.Driver is one.
type Tracker interface {
	Networks() []driver.Network
	Endpoints() []driver.Endpoint
	HostChains(context.Context) ([]firewall.Chain, error)
	Nftables(context.Context) error // why they can't be used
}

// Options are what a Checker works with; all but Docker and Container are required.
type Options struct {
	Tracker   Tracker
	Inspector *inspect.Inspector
	Launcher  *launch.Launcher
	Kernel    *netnsid.Querier
	Cluster   bool         // this host is in a cluster
	Programs  func() error // why tc programs can't be used; nil: they can
	// Docker asks Docker what it has. Nil: weave does without Docker's API.
	Docker func(context.Context) (Docker, error)
	// Container returns what people call the container of an endpoint, empty if nobody knows. Optional.
	Container func(driver.EndpointID) string
	// Warnings are what weave itself knows to be wrong, which `weave status` tells, too, by part.
	Warnings func(context.Context) map[api.HostPart][]string
}

// Docker is what Docker has.
type Docker struct {
	Version   string // of the Engine
	Networks  map[driver.NetworkID]bool
	Endpoints map[driver.EndpointID]bool
}

// Checker looks at a host. Its methods may be called from several goroutines at once.
type Checker struct{ o Options }

// New returns a Checker.
func New(o Options) *Checker {
	if o.Container == nil {
		o.Container = func(driver.EndpointID) string { return "" }
	}
	return &Checker{o}
}

// facts are what was gathered.
type facts struct {
	now       time.Time
	networks  []driver.Network
	endpoints []endpoint
	warnings  map[api.HostPart][]string
	kernel    kernel
	sysctls   map[string]string // by their names with slashes; missing: the kernel has none
	rights    rights
	rules     []firewall.Chain
	rulesErr  error
	routes    []route
	routesErr error
	ports     map[string]int // of bridges, by their names
	portsErr  error
	tables    []neighbourTable
	tablesErr error
	asked     []asked
	docker    *Docker // nil: see dockerErr, or weave does without
	dockerErr error
}

// endpoint is one with what was seen of it.
type endpoint struct {
	driver.Endpoint
	name  string // of its container, for people
	drift []api.Drift
}

// Check looks at the host. Each part that this host has is in the result.
func (c *Checker) Check(ctx context.Context) []api.HostFinding { return judge(c.gather(ctx)) }

// judges are the parts in their order. What weave itself warns of a part comes first; a judge says the rest, or that
// the part is in order.
var judges = []struct {
	part  api.HostPart
	judge func(facts) []api.HostFinding // nil: there is nothing but the warnings
	fine  string                        // what is said if nothing else is
}{
	{api.HostKernel, ofKernel, ""},
	{api.HostCapabilities, ofRights, ""},
	{api.HostSandboxes, nil, "what Docker mounts reaches weave"},
	{api.HostState, nil, "weave's records can be written, its sockets are there"},
	{api.HostLinks, nil, "bridges, host ends and rules of weave's are as they should be"},
	{api.HostPorts, ofPorts, ""},
	{api.HostEndpoints, ofEndpoints, ""},
	{api.HostAddresses, ofAddresses, ""},
	{api.HostSubnets, ofSubnets, ""},
	{api.HostWayOut, ofWayOut, ""},
	{api.HostInside, ofInside, ""},
	{api.HostTranslation, ofTranslation, ""},
	{api.HostReversePath, ofReversePath, ""},
	{api.HostNeighbours, ofNeighbours, ""},
	{api.HostDocker, ofDocker, ""},
	{api.HostForgotten, ofForgotten, ""},
	{api.HostCluster, nil, ""},
}

// serious are the parts of which a warning of weave's own means that something does not work. Whether what it warns of
// otherwise hurts anybody is judged by other parts.
var serious = map[api.HostPart]bool{api.HostState: true, api.HostWayOut: true, api.HostCluster: true}

// maxFindings is how many findings there are of one part; more are counted.
const maxFindings = 20

func judge(f facts) []api.HostFinding {
	var all []api.HostFinding
	for _, j := range judges {
		var found []api.HostFinding
		for _, w := range f.warnings[j.part] {
			result := api.CheckWarning
			if serious[j.part] {
				result = api.CheckFailed
			}
			found = append(found, api.HostFinding{Result: result, Evidence: w})
		}
		switch {
		case j.judge != nil:
			more := j.judge(f)
			if len(found) > 0 && isFine(more) {
				more = nil // what is said to be in order is not all of it
			}
			found = append(found, more...)
		case len(found) == 0 && j.fine != "":
			found = append(found, ok("%s", j.fine))
		}
		slices.SortStableFunc(found, func(a, b api.HostFinding) int {
			return cmp.Compare(weight[a.Result], weight[b.Result])
		})
		if more := len(found) - maxFindings; more > 0 {
			found = append(found[:maxFindings], unknown("and %d more", more))
		}
		for _, x := range found {
			x.Part = j.part
			all = append(all, x)
		}
	}
	return all
}

// weight orders the findings of a part: what fails comes first.
var weight = map[api.CheckResult]int{api.CheckWarning: 1, api.CheckUnknown: 2, api.CheckOK: 3}

func isFine(found []api.HostFinding) bool { return len(found) == 1 && found[0].Result == api.CheckOK }

// asked is what questions from a container of a network have brought.
type asked struct {
	network driver.Network
	err     error // why nobody was asked
	total   int   // how many addresses the network has
	asked   int   // how many of them were asked for
	others  []answer
}

// answer is one by somebody who is not known to have the address.
type answer struct {
	address netip.Addr
	owner   string // who has it, for people
	mac     string // of who has answered
	who     string // whose that MAC is, as far as weave knows, for people
}

// each returns the judge's findings, or that all is fine if there are none.
func each(found []api.HostFinding, fine string, args ...any) []api.HostFinding {
	if len(found) == 0 {
		return []api.HostFinding{ok(fine, args...)}
	}
	return found
}
