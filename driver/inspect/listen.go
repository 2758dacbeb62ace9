// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/driver"
)

// Listen opens packet sockets for a capture at both ends of an endpoint, which is owner's: at the container end, heard
// inside the sandbox, and at the host end. An end that can't be heard is left out, and is a problem. The caller, or the
// capture, closes the sockets.
func (i *Inspector) Listen(
	ctx context.Context, ep driver.Endpoint, owner string,
) (links []capture.Link, problems []string, err error) {
	o, ok := i.Observe(ctx, []driver.Endpoint{ep}, api.Kernel)[ep.ID]
	if !ok || o.Host == nil {
		return nil, nil, fmt.Errorf("%w: host end %s of %s", driver.ErrNotFound, ep.HostEnd, owner)
	}
	switch {
	case o.Inside != nil:
		fd, err := i.launcher.Packets(ctx, ep.Sandbox)
		if err != nil {
			problems = append(problems, fmt.Sprintf("the container end of %s is not captured: %v", owner, err))
			break
		}
		links = append(links, capture.Link{
			Name: owner + " " + o.Inside.Name, Comment: fmt.Sprintf("container end of endpoint %s", ep.ID),
			Index: o.Inside.Index, Socket: fd,
		})
	default:
		reason := o.Err
		if reason == nil {
			reason = errors.New("it was not found in the sandbox")
		}
		problems = append(problems, fmt.Sprintf("the container end of %s is not captured: %v", owner, reason))
	}
	fd, err := capture.Open()
	if err != nil {
		for _, l := range links {
			unix.Close(l.Socket)
		}
		return nil, nil, err
	}
	return append(links, capture.Link{
		Name: owner + " " + ep.HostEnd, Comment: fmt.Sprintf("host end of endpoint %s", ep.ID),
		Index: o.Host.Index, Socket: fd,
	}), problems, nil
}
