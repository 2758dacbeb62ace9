// SPDX-License-Identifier: Apache-2.0

package page

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/api"
)

// HeaderPage is a header that a request to the API has to have. A page of another origin can't send it: the browser
// asks first whether it may, and is refused.
const HeaderPage = "Weave-Page"

// Why a request is refused.
const (
	whyName   = "ask by an IP address or as localhost, not by a name: another page could have made the name up"
	whyOrigin = "the page of another origin asks: open weave's own page"
	whyScript = "want the header " + HeaderPage + ", which only weave's own page sends"
)

// foreign returns why a request may come from a page of another origin; empty: it does not. Browsers send such requests
// with what their user can reach, and so past a loopback address.
func foreign(r *http.Request) string {
	// A page whose own name leads here by now (DNS rebinding) is of the same origin as far as the browser sees it.
	if !literal(r.Host) {
		return whyName
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || u.Host != r.Host {
			return whyOrigin
		}
	}
	from := r.Header.Get("Sec-Fetch-Site") // of browsers that know of it, at localhost or by HTTPS
	opens := r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		r.Header.Get("Sec-Fetch-Dest") == "document"
	if !slices.Contains([]string{"", "same-origin", "none"}, from) && !opens { // a link to the page is no harm
		return whyOrigin
	}
	return ""
}

// literal reports whether a Host header is an IP address or localhost. Its port may be another one than the listener's:
// ssh -L 8080:127.0.0.1:9784.
func literal(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // there is no port
		name = strings.Trim(host, "[]")
	}
	_, err = netip.ParseAddr(name)
	return err == nil || strings.EqualFold(name, "localhost")
}

// onlyScripts returns a handler for requests of weave's own page. An EventSource can't send a header of its own, but
// accepts what an image or a link of another page does not.
func onlyScripts(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		follows := r.Method == http.MethodGet && r.URL.Path == api.PathEvents &&
			r.Header.Get("Accept") == "text/event-stream"
		if r.Header.Get(HeaderPage) == "" && !follows {
			refuse(w, whyScript)
			return
		}
		h.ServeHTTP(w, r)
	})
}
