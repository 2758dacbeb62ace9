// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/cluster"
)

// forgetful is a cluster of hosts with one name, of which Forget gets an id.
type forgetful struct {
	twoHosts
	forgotten string
	err       error
}

func (f *forgetful) Hosts() []cluster.HostStatus {
	hosts := f.twoHosts.Hosts()
	twin := host2
	twin.ID = "1123999999999999"
	return append(hosts, cluster.HostStatus{Host: twin})
}

func (f *forgetful) Forget(_ context.Context, id string) error {
	f.forgotten = id
	return f.err
}

// TestForget: root can have a host forgotten, whoever else can connect can't.
func TestForget(t *testing.T) {
	const root, other = "uid 0", "uid 1000"
	away := fmt.Errorf("forget it: %w", cluster.ErrUnreachable)
	for name, tt := range map[string]struct {
		method, host, user string
		err                error
		code               int
		want               string // in the answer
		forgotten          string
	}{
		"by name":             {"DELETE", "host1", root, nil, 200, `"name":"host1"`, host1.ID},
		"by id":               {"DELETE", host2.ID, root, nil, 200, `"name":"host2"`, host2.ID},
		"by a part of the id": {"DELETE", "11234", root, nil, 200, `"id":"1123456789abcdef"`, host2.ID},
		"not root":            {"DELETE", "host1", other, nil, 403, "only root may do this", ""},
		"no user":             {"DELETE", "host1", "@", nil, 403, "only root may do this", ""},
		"unknown":             {"DELETE", "host9", root, nil, 404, "no such host", ""},
		"two of that name":    {"DELETE", "host2", root, nil, 400, "it may be 2 hosts", ""},
		"two that begin so":   {"DELETE", "1123", root, nil, 400, "it may be 2 hosts", ""},
		"a parameter":         {"DELETE", "host1?x", root, nil, 400, "want no parameter", ""},
		"present":             {"DELETE", "host1", root, cluster.ErrPresent, 409, "the host is there", host1.ID},
		"without etcd":        {"DELETE", "host1", root, away, 503, "try again when", host1.ID},
		"a defect":            {"DELETE", "host1", root, errors.New("a defect"), 500, "a defect", host1.ID},
		"another method":      {"POST", "host1", root, nil, 405, "want DELETE", ""},
		"a listing":           {"GET", "host1", root, nil, 405, "want DELETE", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &forgetful{err: tt.err}
			code, body := change(newServer(c), tt.method, tt.host, tt.user)
			if code != tt.code || !strings.Contains(body, tt.want) || c.forgotten != tt.forgotten {
				t.Errorf("status %d, forgotten %q: %s; want %d, %q: %s",
					code, c.forgotten, body, tt.code, tt.forgotten, tt.want)
			}
		})
	}
	code, body := change(newServer(nil), "DELETE", "host1", root)
	if code != 404 || !strings.Contains(body, "no cluster") {
		t.Errorf("without a cluster: status %d: %s", code, body)
	}
}

// change sends a request about a host, which comes from a user.
func change(s *Server, method, host, user string) (code int, body string) {
	r := httptest.NewRequest(method, "/v1/hosts/"+host, http.NoBody)
	r.RemoteAddr = user
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}
