// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/nsproc/launch"
)

// startGrace is how long Docker may take from one call to the next one that belongs to it. For that long an endpoint
// without carrier and sandbox counts as alive, since a container is being started with it: up to Docker 27 the sandbox
// is made only after Join.
const startGrace = 10 * time.Second

// dockerRun holds when the present Docker daemon began to call.
type dockerRun struct {
	mu      sync.RWMutex
	started time.Time // zero: before weave started
}

func (r *dockerRun) begin(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = now
}

// mayFollow reports whether the next call may still follow one that Docker made at t.
func (r *dockerRun) mayFollow(t time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return time.Since(t) < startGrace && t.After(r.started)
}

// since returns when the present Docker daemon began to call; zero: before weave started.
func (r *dockerRun) since() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.started
}

// DockerSince returns when the present Docker daemon began to call; zero: before weave started. It will not go on with
// what was made before.
func (d *Driver) DockerSince() time.Time { return d.docker.since() }

// DockerStarted records that another Docker daemon begins to call. It will not finish what an earlier one has begun.
func (d *Driver) DockerStarted() { d.docker.begin(time.Now()) }

// alive reports whether a container has the endpoint, or is about to.
func (d *Driver) alive(ep Endpoint) (bool, error) {
	link, err := findLink(ep.HostEnd)
	if err != nil || link == nil {
		return false, err
	}
	return d.isStarting(ep, link) || d.inContainer(ep, link), nil
}

// isStarting reports whether Docker may still be starting a container with the endpoint, whose host end this is.
func (d *Driver) isStarting(ep Endpoint, hostEnd netlink.Link) bool {
	return !hasCarrier(hostEnd) && ep.State() != Up && d.docker.mayFollow(ep.Created)
}

// inContainer reports whether the endpoint, with this host end, is in a container. A carrier alone does not say so:
// when a container has ended Docker unmounts its sandbox, and the kernel removes what was in it only later.
func (d *Driver) inContainer(ep Endpoint, hostEnd netlink.Link) bool {
	if ep.Sandbox == "" {
		return false
	}
	err := d.sandboxError(ep.Sandbox)
	return err == nil || errors.Is(err, launch.ErrNotVisible) && hasCarrier(hostEnd)
}

// sandboxError returns nil if the sandbox is there, else why it can't be opened.
func (d *Driver) sandboxError(sandbox string) error {
	file, err := d.launcher.Sandboxes().Open(sandbox)
	if err != nil {
		return err
	}
	return file.Close()
}

// retireConflicting retires the endpoints that have the new one's MAC or one of its addresses but no living container.
// If one of them has a living container, and the address is still there, it returns ErrConflict.
func (d *Driver) retireConflicting(ctx context.Context, spec EndpointSpec, others []Endpoint) error {
	for _, old := range others {
		claim := sharedClaim(spec, old)
		if claim == "" {
			continue
		}
		alive, err := d.alive(old)
		if err != nil {
			return err
		}
		if alive {
			left := d.withoutLost(ctx, old, spec.Addresses)
			if claim = sharedClaim(spec, left); claim == "" {
				if err := d.shed(ctx, old, left); err != nil {
					return err
				}
				continue
			}
			return fmt.Errorf("%w: %s is in use on this network by endpoint %s (`weave ps` shows whose it is)",
				ErrConflict, claim, old.ID)
		}
		d.logOf(old).Warnf("removing this endpoint, which has no living container: endpoint %s needs its %s",
			spec.ID, claim)
		if err := d.retire(ctx, old); err != nil {
			return err
		}
	}
	return nil
}

// sharedClaim names what both endpoints claim, "" if nothing.
func sharedClaim(spec EndpointSpec, old Endpoint) string {
	if !spec.MAC.IsZero() && spec.MAC == old.MAC {
		return "MAC " + old.MAC.String()
	}
	for _, a := range spec.Addresses {
		if old.has(a.Addr()) {
			return "address " + a.Addr().String()
		}
	}
	return ""
}

// ensureFreePort makes sure that the bridge has a port left: it waits for pairs that are being removed, then retires
// an endpoint without a living container. It returns ErrFull if there is none.
func (d *Driver) ensureFreePort(ctx context.Context, nw Network) error {
	if len(d.tracked.endpointsOf(nw.ID))+d.removals.count(nw.ID) < MaxPorts {
		return nil
	}
	if err := d.removals.wait(ctx, nw.ID); err != nil {
		return err
	}
	others := d.tracked.endpointsOf(nw.ID)
	if len(others) < MaxPorts {
		return nil
	}
	for _, old := range others {
		alive, err := d.alive(old)
		if err != nil {
			return err
		}
		if !alive {
			d.logOf(old).Warn("network is full: removing this endpoint, which has no living container")
			if err := d.retire(ctx, old); err != nil {
				return err
			}
			return d.removals.waitEndpoint(ctx, old.ID)
		}
	}
	return errFull(nw.Bridge)
}
