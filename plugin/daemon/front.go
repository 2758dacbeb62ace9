// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/sirupsen/logrus"
)

// front answers the requests on a socket. It passes them on to the core; where that can't answer, because it is not
// open or because it panics, front does, in the form that the socket's clients read.
type front struct {
	gate     *gate
	protocol Protocol
	handler  func(*Core) http.Handler // the core's handler for this socket
	log      *logrus.Entry
}

// ServeHTTP answers one request.
func (f front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer f.answerPanic(w, r)
	core := f.gate.now()
	if core == nil && f.protocol.Handshake != nil {
		if _, pattern := f.protocol.Handshake.Handler(r); pattern != "" {
			f.protocol.Handshake.ServeHTTP(w, r)
			return
		}
	}
	if core == nil {
		var err error
		if core, err = f.gate.wait(r.Context()); err != nil {
			f.log.WithField("path", r.URL.Path).WithError(err).Warn("request refused")
			f.protocol.Refuse(w, http.StatusServiceUnavailable, err)
			return
		}
	}
	f.handler(core).ServeHTTP(w, r)
}

// answerPanic answers the request whose handler panics, and logs where: one defect must not end everybody's requests,
// and Docker, when it sees its connection break, repeats the call without a body.
func (f front) answerPanic(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(p)
	}
	f.log.WithFields(logrus.Fields{"path": r.URL.Path, "stack": string(debug.Stack())}).Errorf("panic: %v", p)
	f.protocol.Refuse(w, http.StatusInternalServerError,
		fmt.Errorf("%s: a defect in weave: %v; please report it with weave's log", r.URL.Path, p))
}
