// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"

	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// NsprocRequest is what nsproc can be had to do for an endpoint by hand, so that one can see what it does.
type NsprocRequest string

// The requests.
const (
	// NsprocList lists what is in the sandbox, and changes nothing.
	NsprocList NsprocRequest = "list"
	// NsprocConfigure configures the container end as weave does each time it comes up. Repeating it does no harm.
	NsprocConfigure NsprocRequest = "configure"
)

// RunNsproc has nsproc execute a request in the endpoint's sandbox and returns what it did, failure included. The error
// is why it was not run: it wraps ErrNotFound if there is no such endpoint, or none in a sandbox.
func (d *Driver) RunNsproc(ctx context.Context, id EndpointID, request NsprocRequest) (run launch.Run, err error) {
	ep, ok := d.tracked.endpoint(id)
	if !ok {
		return run, fmt.Errorf("%w: endpoint %s", ErrNotFound, id)
	}
	if ep.Sandbox == "" {
		return run, fmt.Errorf("%w: endpoint %s is in no container, so there is no sandbox", ErrNotFound, id)
	}
	seen := d.launcher.Seen(func(r launch.Run) { run = r })
	switch request {
	case NsprocList:
		_, err = seen.List(ctx, ep.Sandbox, protocol.List{Routes: true, Neighbours: true, Rules: true, Sockets: true})
	case NsprocConfigure:
		var c protocol.Configure
		nw, _ := d.tracked.network(ep.Network)
		if c, err = d.configuration(nw, ep); err == nil {
			_, err = seen.Configure(ctx, ep.Sandbox, c)
		}
	default:
		return run, fmt.Errorf("%w: nsproc request %q: want %s or %s", ErrInvalid, request, NsprocList, NsprocConfigure)
	}
	if run.Sandbox == "" { // it was not run
		return run, err
	}
	run.Err = err
	return run, nil
}
