// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
)

// proxy passes requests on to Docker's API and translates those that create networks.
type proxy struct {
	docker http.Handler // passes a request on
	driver string
	log    *logrus.Entry
}

// newProxy returns a proxy for Docker's API on a socket. Networks that are created with the driver bridge get driver.
func newProxy(socket, driver string, log *logrus.Entry) *proxy {
	target := &url.URL{Scheme: "http", Host: "docker"}
	transport := api.UnixTransport(socket)
	transport.DisableCompression = true
	return &proxy{driver: driver, log: log, docker: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // logs, events and statistics are streams
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // otherwise the client has gone
				log.WithError(err).WithField("call", r.Method+" "+r.URL.Path).Warn("call Docker")
			}
			answerError(w, http.StatusBadGateway, fmt.Errorf("call Docker: %w", err))
		},
	}}
}

// createPath matches the path for creating a network, with and without the API's version.
var createPath = regexp.MustCompile(`^(/v[0-9.]+)?/networks/create$`)

// maxRequest is the largest request to create a network, in bytes.
const maxRequest = 1 << 20

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && createPath.MatchString(r.URL.Path) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			answerError(w, http.StatusBadRequest, fmt.Errorf("read the request: %w", err))
			return
		}
		body, dropped := translate(body, p.driver)
		if len(dropped) > 0 {
			p.log.WithField("options", dropped).Info("dropped options of the bridge driver")
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	p.docker.ServeHTTP(w, r)
}

// answerError replies with an error in the form of Docker's API.
func answerError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()}) // the client may have gone
}
