// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/weaveplugin/weave/api"
)

// reportTime bounds the work on a report.
const reportTime = 2 * time.Minute

// report answers with an archive for a report of a fault.
func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	if s.options.Report == nil {
		Refuse(w, errorf(http.StatusNotFound, "no report can be made here"))
		return
	}
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		Refuse(w, badRequest(err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), reportTime)
	defer cancel()
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Trailer", api.TrailerError)
	if err := s.options.Report(ctx, newStream(w, fileTime)); err != nil {
		w.Header().Set(api.TrailerError, strconv.QuoteToASCII(err.Error()))
	}
}
