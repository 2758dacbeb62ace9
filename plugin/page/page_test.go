// SPDX-License-Identifier: Apache-2.0

package page

import (
	"crypto/sha256"
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

// served is a handler that answers with its name.
func served(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(name)) // what was written is what the test looks at
	})
}

// ask sends a request, with headers as "Name: value", and returns the answer.
func ask(method, target, host string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, http.NoBody)
	r.Host = host
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	New(served("public"), served("metrics")).ServeHTTP(w, r)
	return w
}

const here = "127.0.0.1:9784"

// TestServed: the page's files, the public part of the API and metrics, by the methods that they have.
func TestServed(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
		body         string // its beginning
	}{
		{"GET", "/", 200, "<!DOCTYPE html>"},
		{"HEAD", "/", 200, ""},
		{"POST", "/", 405, "Method Not Allowed"},
		{"GET", "/main.js", 200, "// SPDX"},
		{"GET", "/page.css", 200, "/* SPDX"},
		{"DELETE", "/page.css", 405, "Method Not Allowed"},
		{"GET", "/lib/cytoscape.esm.min.mjs", 200, "function"},
		{"GET", "/lib/cytoscape-LICENSE", 200, "Copyright"},
		{"GET", "/lib/", 404, "404"},
		{"GET", "/index.html", 404, "404"},
		{"GET", "/files/main.js", 404, "404"},
		{"GET", "/page.go", 404, "404"},
		{"GET", "/metrics", 200, "metrics"},
		{"HEAD", "/metrics", 200, "metrics"}, // the recorder's answer has a body
		{"POST", "/metrics", 405, "Method Not Allowed"},
		{"GET", "/v1/networks", 200, "public"},
		{"DELETE", "/v1/hosts/other", 200, "public"}, // which refuses it
		{"POST", "/Plugin.Activate", 404, "404"},
	} {
		w := ask(tt.method, tt.path, here, own)
		if w.Code != tt.status || !strings.HasPrefix(w.Body.String(), tt.body) {
			t.Errorf("%s %s: status %d, %.80q, want %d, %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.body)
		}
	}
}

// own is the header by which weave's own page asks.
const own = HeaderPage + ": yes"

// TestForeignPages: a page of another origin, or one whose own name leads here, gets nothing, and causes no check.
func TestForeignPages(t *testing.T) {
	const check = "/v1/check?from=a&to=b"
	for name, tt := range map[string]struct {
		method, path, host string
		headers            []string
		status             int
	}{
		"by an IPv4 address":         {"GET", "/v1/networks", here, []string{own}, 200},
		"by an IPv6 address":         {"GET", "/v1/networks", "[::1]:9784", []string{own}, 200},
		"by an IPv6 address at 80":   {"GET", "/v1/networks", "[::1]", []string{own}, 200},
		"as localhost":               {"GET", "/v1/networks", "localhost:9784", []string{own}, 200},
		"through ssh -L":             {"GET", "/v1/networks", "LOCALHOST:8080", []string{own}, 200},
		"at port 80":                 {"GET", "/v1/networks", "127.0.0.1", []string{own}, 200},
		"DNS rebinding":              {"GET", "/v1/networks", "evil.example:9784", []string{own}, 403},
		"rebinding, the page itself": {"GET", "/", "evil.example:9784", nil, 403},
		"a name like an address":     {"GET", "/", "127.0.0.1.evil.example:9784", nil, 403},
		"a name like localhost":      {"GET", "/", "localhost.evil.example:9784", nil, 403},
		"with a user":                {"GET", "/", "127.0.0.1@evil.example", nil, 403},
		"no host":                    {"GET", "/", "", nil, 403},
		"metrics by a name":          {"GET", "/metrics", "host.example:9784", nil, 200},
		"the page's own request": {
			"GET", "/v1/networks", here, []string{own, "Sec-Fetch-Site: same-origin", "Origin: http://" + here}, 200,
		},
		"typed":            {"GET", "/", here, []string{"Sec-Fetch-Site: none"}, 200},
		"another site":     {"GET", "/v1/networks", here, []string{own, "Sec-Fetch-Site: cross-site"}, 403},
		"another port":     {"GET", "/v1/networks", here, []string{own, "Sec-Fetch-Site: same-site"}, 403},
		"another origin":   {"GET", "/v1/networks", here, []string{own, "Origin: http://evil.example"}, 403},
		"no origin at all": {"GET", "/v1/networks", here, []string{own, "Origin: null"}, 403},
		"its port only":    {"GET", "/v1/networks", here, []string{own, "Origin: http://127.0.0.1:1"}, 403},
		"behind TLS":       {"GET", "/v1/networks", here, []string{own, "Origin: https://" + here}, 200},
		"a link to the page": {
			"GET", "/", here,
			[]string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 200,
		},
		"a frame": {
			"GET", "/", here,
			[]string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, 403,
		},
		"a link to a list": {
			"GET", "/v1/networks", here,
			[]string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 403,
		},
		"an image of another page":     {"GET", "/v1/networks", here, nil, 403},
		"an image of events":           {"GET", "/v1/events", here, []string{"Accept: image/*,*/*"}, 403},
		"the page follows the events":  {"GET", "/v1/events", here, []string{"Accept: text/event-stream"}, 200},
		"nothing else is followed":     {"GET", "/v1/status", here, []string{"Accept: text/event-stream"}, 403},
		"the page reads former events": {"GET", "/v1/events", here, []string{own}, 200},
		"a check":                      {"POST", check, here, []string{own, "Origin: http://" + here}, 200},
		"a check by a form":            {"POST", check, here, nil, 403},
		"a check of another origin":    {"POST", check, here, []string{own, "Origin: http://evil.example"}, 403},
		"may another origin do that?":  {"OPTIONS", check, here, []string{"Origin: http://evil.example"}, 403},
		"a check by a page that lures": {
			"POST", check, "evil.example", []string{own, "Origin: http://evil.example"}, 403,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(tt.method, tt.path, tt.host, tt.headers...)
			if w.Code != tt.status {
				t.Errorf("status %d, %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.status == 403 && !strings.HasPrefix(w.Body.String(), `{"error":"`) {
				t.Errorf("no reason: %s", w.Body)
			}
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("others may read it: %q", got)
			}
		})
	}
}

// TestHeaders: whatever is answered, but metrics, is under the policy, and no other site can use it.
func TestHeaders(t *testing.T) {
	for _, p := range []string{"/", "/main.js", "/v1/networks", "/nothing"} {
		h := ask("GET", p, here).Header()
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", p, name, got, want)
			}
		}
	}
	directives := map[string]string{}
	for d := range strings.SplitSeq(policy, ";") {
		name, sources, _ := strings.Cut(strings.TrimSpace(d), " ")
		directives[name] = sources
	}
	for name, want := range map[string]string{
		"default-src": "'none'", "script-src": "'self'", "connect-src": "'self'", "base-uri": "'none'",
		"form-action": "'none'", "frame-ancestors": "'none'",
	} {
		if got := directives[name]; got != want {
			t.Errorf("policy: %s is %s, want %s", name, got, want)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("policy: %s", policy)
	}
}

// TestStyleOfCytoscape: the one style element of the page has the id by which Cytoscape finds it, the text that it
// would insert, and the hash that the policy has.
func TestStyleOfCytoscape(t *testing.T) {
	text := ask("GET", "/", here).Body.String()
	found := regexp.MustCompile(`<style([^>]*)>([^<]*)</style>`).FindAllStringSubmatch(text, -1)
	if len(found) != 1 || found[0][1] != ` id="__________cytoscape_stylesheet"` {
		t.Fatalf("style elements: %q", found)
	}
	sum := sha256.Sum256([]byte(found[0][2]))
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) {
		t.Errorf("the policy lacks %s", want)
	}
	library := ask("GET", "/lib/cytoscape.esm.min.mjs", here).Body.String()
	if !strings.Contains(library, `"__________cytoscape_stylesheet"`) ||
		!strings.Contains(library, `" { position: relative; }"`) {
		t.Error("Cytoscape inserts another element: look at it, and change the page and the policy")
	}
	if inline := regexp.MustCompile(`style="|\son[a-z]+="|<script>`).FindString(text); inline != "" {
		t.Errorf("the policy forbids %q", inline)
	}
}

// TestFilesAreKept: a browser that has a file already is told so, and never goes without asking.
func TestFilesAreKept(t *testing.T) {
	w := ask("GET", "/main.js", here)
	tag := w.Header().Get("ETag")
	if tag == "" || w.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("headers %v", w.Header())
	}
	if again := ask("GET", "/main.js", here, "If-None-Match: "+tag); again.Code != http.StatusNotModified {
		t.Errorf("the same file: status %d", again.Code)
	}
	if other := ask("GET", "/page.css", here, "If-None-Match: "+tag); other.Code != http.StatusOK {
		t.Errorf("another file: status %d", other.Code)
	}
}

// TestFilesHaveTypes: each file is of a type that browsers accept for it, has its license, and is asked for by name.
func TestFilesHaveTypes(t *testing.T) {
	err := fs.WalkDir(embedded, "files", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, ok := types[path.Ext(name)]; !ok {
			t.Errorf("%s: no content type", name)
		}
		content, err := embedded.ReadFile(name)
		if own := !strings.HasPrefix(name, "files/lib/") && path.Ext(name) != ".svg"; own &&
			!strings.Contains(string(content[:100]), "SPDX-License-Identifier: Apache-2.0") {
			t.Errorf("%s: no license", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	module := ask("GET", "/lib/cytoscape.esm.min.mjs", here)
	if got := module.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/javascript") {
		t.Errorf("a module's type is %q", got)
	}
}
