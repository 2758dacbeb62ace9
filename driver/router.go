// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"slices"
)

// checkRouters returns ErrInvalid if a container could get the address of a router on a bridge that is not weave's. On
// one of weave's a container may be the router.
func (spec NetworkSpec) checkRouters() error {
	foreign, err := spec.hasForeignBridge()
	if err != nil || !foreign {
		return err
	}
	routers, _ := spec.Gateway.routers()
	for _, router := range routers {
		reserves := func(p Pool) bool { return p.Gateway == router || slices.Contains(p.Reserved, router) }
		if !slices.ContainsFunc(spec.Pools, reserves) {
			return invalidOption(optionGateway, string(spec.Gateway), fmt.Sprintf(
				"a container could get the router's address: keep it from them with --gateway %s", router))
		}
	}
	return nil
}

// checkRouter returns ErrConflict if the endpoint would be a second router of a network whose router is a container.
func (d *Driver) checkRouter(nw Network, ep Endpoint) error {
	if !nw.isRouter(ep) {
		return nil
	}
	for _, other := range d.tracked.endpointsOf(nw.ID) {
		if other.ID == ep.ID || !nw.isRouter(other) || other.Sandbox == "" {
			continue
		}
		// Up to Docker 27 a sandbox may not be there yet when its container joins.
		if d.docker.mayFollow(other.Created) || d.sandboxError(other.Sandbox) == nil {
			return fmt.Errorf("%w: endpoint %s is the router of network %s already (%s=%s, %s=true): "+
				"disconnect it first", ErrConflict, other.ID, nw.ID, optionGateway, nw.Gateway, optionRouter)
		}
	}
	return nil
}

// routerProblems tells of networks whose router is a container, but no container of theirs is.
func (d *Driver) routerProblems(networks []Network) []problem {
	var out []problem
	for _, nw := range networks {
		if nw.Gateway.container() == "" {
			continue
		}
		joined := slices.DeleteFunc(d.tracked.endpointsOf(nw.ID), func(ep Endpoint) bool { return ep.State() != Up })
		if len(joined) > 0 && !slices.ContainsFunc(joined, nw.isRouter) {
			out = append(out, problem{"network " + string(nw.ID), errors.New(
				"its containers have no way out until a container is its router: connect " + nw.Gateway.container() +
					" to it with the driver option " + optionRouter + "=true")})
		}
	}
	return out
}
