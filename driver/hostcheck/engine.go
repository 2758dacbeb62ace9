// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
)

// version is that of a Docker Engine.
type version [3]int

// parseVersion reads a version such as 20.10.24+dfsg1.
func parseVersion(text string) (v version, ok bool) {
	text, _, _ = strings.Cut(text, "+")
	text, _, _ = strings.Cut(text, "-")
	parts := strings.Split(text, ".")
	if len(parts) != len(v) {
		return version{}, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return version{}, false
		}
		v[i] = int(n)
	}
	return v, true
}

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// before reports whether v is an earlier version.
func (v version) before(other version) bool { return slices.Compare(v[:], other[:]) < 0 }

// oldest is the first version that weave is made for.
var oldest = version{20, 10, 0}

// engineFaults are faults of Docker Engines that hurt users of weave's networks, with where they are told of.
var engineFaults = []struct {
	since, mended version
	what, source  string
}{
	{
		version{29, 0, 0}, version{29, 0, 2}, "a container that has its way out from docker_gwbridge can't be " +
			"connected to a network with a gateway", "moby/moby#51522",
	},
	{
		version{29, 0, 0}, version{29, 0, 3}, "Docker ends when a container is disconnected from the network of a " +
			"plugin that was its way out", "moby/moby#51554",
	},
	{
		version{29, 1, 0}, version{29, 1, 1}, "Docker's resolver finds no names of the outside for containers on " +
			"networks that users have made", "moby/moby#51614",
	},
}

// ofDocker judges whether Docker can be asked, and its version.
func ofDocker(f facts) (found []api.HostFinding) {
	switch {
	case f.dockerErr != nil:
		return []api.HostFinding{warning("see that --docker-socket is the socket of Docker's API, and that Docker runs",
			"Docker's API can't be read, so names are missing or old, and what Docker forgets stays: %v", f.dockerErr)}
	case f.docker == nil:
		return []api.HostFinding{unknown("weave does without Docker's API: --docker-socket is none")}
	}
	v, readable := parseVersion(f.docker.Version)
	if !readable {
		return []api.HostFinding{unknown("Docker Engine %.40q: that is no version whose faults are known",
			f.docker.Version)}
	}
	if v.before(oldest) {
		found = append(found, warning("upgrade Docker", "Docker Engine %s is older than %s, the first one that weave "+
			"is made for", f.docker.Version, oldest))
	}
	for _, x := range engineFaults {
		if !v.before(x.since) && v.before(x.mended) {
			found = append(found, failed(fmt.Sprintf("use Docker Engine %s or later", x.mended),
				"Docker Engine %s: %s (%s)", f.docker.Version, x.what, x.source))
		}
	}
	return each(found, "Docker Engine %s has no fault that is known to hurt weave's networks", f.docker.Version)
}

// making is how long what weave has may not be known to Docker yet: it lists an endpoint when its container runs.
const making = 20 * time.Second

// ofForgotten judges what weave has of networks and endpoints that Docker has not.
func ofForgotten(f facts) (found []api.HostFinding) {
	if f.docker == nil {
		return []api.HostFinding{unknown("what Docker has is not known")}
	}
	const advice = "weave releases it by itself some minutes after Docker has forgotten it, once its container is " +
		"gone; if it stays, restart Docker"
	old := func(created time.Time) bool { return f.now.Sub(created) > making }
	known := map[driver.NetworkID]bool{}
	for _, nw := range f.networks {
		known[nw.ID] = true
		if !f.docker.Networks[nw.ID] && old(nw.Created) {
			found = append(found, warning(advice, "Docker does not know network %.12s, bridge %s", nw.ID, nw.Bridge))
		}
	}
	for _, e := range f.endpoints {
		if !f.docker.Endpoints[e.ID] && old(e.Created) {
			found = append(found, warning(advice, "Docker does not know endpoint %.12s, host end %s", e.ID, e.HostEnd))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(f.docker.Networks)) {
		if !known[id] {
			found = append(found, warning("weave takes it up within minutes; if it does not, weave's log says why",
				"Docker has network %.12s of this driver, which weave does not know", id))
		}
	}
	return each(found, "Docker knows all %d networks and %d endpoints", len(f.networks), len(f.endpoints))
}
