// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/rtnl"
	"github.com/weaveplugin/weave/nsproc/trace"
)

// Nsproc runs nsproc in the sandbox of an endpoint. driver.Driver is one.
type Nsproc interface {
	RunNsproc(context.Context, driver.EndpointID, driver.NsprocRequest) (launch.Run, error)
}

func (s *Server) runNsproc(ctx context.Context, r *http.Request) (any, error) {
	parameters, err := parseParameters(r.URL.RawQuery, api.ParamRequest, api.ParamTrace)
	if err != nil {
		return nil, badRequest(err)
	}
	requested := parameters.Get(api.ParamRequest)
	if requested != api.NsprocList && requested != api.NsprocConfigure {
		return nil, errorf(http.StatusBadRequest, "parameter %s: %.80q: want %s or %s",
			api.ParamRequest, requested, api.NsprocList, api.NsprocConfigure)
	}
	if s.options.Nsproc == nil {
		return nil, errorf(http.StatusNotFound, "nsproc can't be run by hand here")
	}
	entry, err := s.selectEndpoint(ctx, r.PathValue("endpoint"))
	if err != nil {
		return nil, err
	}
	run, err := s.options.Nsproc.RunNsproc(ctx, driver.EndpointID(entry.ID), driver.NsprocRequest(requested))
	if errors.Is(err, driver.ErrNotFound) {
		return nil, errorf(http.StatusNotFound, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	return toNsprocRun(entry, run, parameters.Get(api.ParamTrace) == "1")
}

// toNsprocRun returns a run as the API has it.
func toNsprocRun(entry api.Endpoint, run launch.Run, traced bool) (api.NsprocRun, error) {
	request, err := json.Marshal(run.Request)
	if err != nil {
		return api.NsprocRun{}, err
	}
	r := api.NsprocRun{Endpoint: entry, Request: request, Took: run.Took.Seconds()}
	if traced {
		r.Trace, r.Truncated = trace.Lines(run.Datagrams), !run.Whole
	}
	switch {
	case run.Err != nil:
		r.Error = run.Err.Error()
	case run.Request.List != nil:
		snapshot, err := rtnl.Decode(run.Answer)
		if err != nil {
			return api.NsprocRun{}, fmt.Errorf("decode nsproc's answer: %w", err)
		}
		if r.Answer, err = json.Marshal(toSandbox(snapshot)); err != nil {
			return api.NsprocRun{}, err
		}
	default:
		r.Answer = run.Answer
	}
	return r, nil
}
