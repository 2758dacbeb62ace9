// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"

	"github.com/weaveplugin/weave/api"
)

// checkHost answers with what is found on the host.
func (s *Server) checkHost(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	if s.options.CheckHost == nil {
		return nil, errorf(http.StatusNotFound, "the host can't be checked here")
	}
	c := api.HostCheck{Findings: orEmpty(s.options.CheckHost(ctx))}
	for _, f := range c.Findings {
		if f.Result == api.CheckFailed {
			c.Failed++
		}
	}
	return c, nil
}
