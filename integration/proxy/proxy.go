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

// proxy passes Docker's API through, but for the networks that are created.
type proxy struct {
	engine http.Handler
	driver string
	log    *logrus.Entry
}

// newProxy returns the proxy before the engine on the socket given; networks that are to have the driver bridge get the
// driver given.
func newProxy(socket, driver string, log *logrus.Entry) *proxy {
	target := &url.URL{Scheme: "http", Host: "docker"}
	transport := api.UnixTransport(socket)
	transport.DisableCompression = true
	return &proxy{driver: driver, log: log, engine: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // logs, events and statistics are streams
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // else the client has gone
				log.WithError(err).WithField("call", r.Method+" "+r.URL.Path).Warn("ask the engine")
			}
			answerError(w, http.StatusBadGateway, fmt.Errorf("ask the engine: %w", err))
		},
	}}
}

// createPath is what a client POSTs to, with and without a version of the API.
var createPath = regexp.MustCompile(`^(/v[0-9.]+)?/networks/create$`)

// maxRequest bounds the request to create a network, in bytes.
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
	p.engine.ServeHTTP(w, r)
}

// answerError answers as the engine does.
func answerError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()}) // the client may have gone
}
