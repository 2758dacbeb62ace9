// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/plugin/remote/wiretest"
)

const (
	testNetwork  = "7d2a4352179e00f14c5fbe322bff4b586f4cef09e5a4bda73851b8725299a4bc"
	testEndpoint = "3345ac4971c9e239a8690fd27572bb369374017ee2c95f6faa11225d4a09c855"
)

func TestBadRequestIsRefused(t *testing.T) {
	const leave, pool = "NetworkDriver.Leave", "IpamDriver.RequestPool"
	ids := func(network, endpoint string) string {
		b, err := json.Marshal(map[string]string{"NetworkID": network, "EndpointID": endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct{ name, call, body, want string }{
		{"empty", leave, "", "weave stopped while it worked on an earlier try of this call"},
		{"empty for IPAM", pool, "", "weave stopped while it worked on an earlier try of this call"},
		{"blank", leave, " \n\t", "weave stopped while it worked on an earlier try of this call"},
		{"not JSON", leave, "NetworkID=1", "decode the request: invalid character 'N'"},
		{"cut off", leave, ids(testNetwork, testEndpoint)[:40], "unexpected end of JSON input"},
		{"trailing garbage", leave, ids(testNetwork, testEndpoint) + "}", "after top-level value"},
		{"two objects", leave, strings.Repeat(ids(testNetwork, testEndpoint), 2), "after top-level value"},
		{"null", leave, "null", "want a JSON object"},
		{"array", leave, "[]", "cannot unmarshal array"},
		{"number for text", leave, `{"NetworkID":1}`, "cannot unmarshal number"},
		{
			"text for a map", "NetworkDriver.CreateNetwork", `{"NetworkID":"` + testNetwork + `","Options":"x"}`,
			"cannot unmarshal string",
		},
		{"text for bool", pool, `{"V6":"yes"}`, "cannot unmarshal string"},
		{"no ids", leave, "{}", `network id "": want 12 to 64 letters and digits`},
		{"no endpoint id", leave, ids(testNetwork, ""), `endpoint id "": want`},
		{"short id", leave, ids("7d2a4352179", testEndpoint), `network id "7d2a4352179": want`},
		{"long id", leave, ids(testNetwork, strings.Repeat("a", 129)), "endpoint id"},
		{"path as id", leave, ids("../../../../etc", testEndpoint), "network id"},
		{"control character in id", leave, ids(testNetwork, testEndpoint[:60]+"\n"), "endpoint id"},
		{"id beyond ASCII", leave, ids(testNetwork, "ééééééééééééé"), "endpoint id"},
		{"deeply nested", leave, strings.Repeat("[", 200_000), "exceeded max depth"},
		{"too large", leave, `{"NetworkID":"` + strings.Repeat("a", maxBody) + `"}`, "request body too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := &fakeBackend{}
			h, hook := newLoggedHandler(fake)
			status, body := post(h, c.call, c.body)
			var got errorReply
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("reply %q: %v", body, err)
			}
			if status != http.StatusBadRequest || !strings.Contains(got.Err, c.want) ||
				!strings.HasPrefix(got.Err, c.call+": ") || got.Error != got.Err {
				t.Errorf("status %d, reply %+v; want 400 and %q", status, got, c.want)
			}
			if n := fake.count(); n != 0 {
				t.Errorf("the backend was called %d times", n)
			}
			if n := logged(hook, logrus.WarnLevel); n != 1 {
				t.Errorf("%d warnings, want 1", n)
			}
		})
	}
}

func logged(hook *logrustest.Hook, level logrus.Level) int {
	n := 0
	for _, e := range hook.AllEntries() {
		if e.Level == level {
			n++
		}
	}
	return n
}

func TestUnknownFieldsOfNewerDockerPass(t *testing.T) {
	status, body := post(newHandler(&fakeBackend{}), "NetworkDriver.Leave",
		`{"networkid":"`+testNetwork+`","EndpointID":"`+testEndpoint+`","NewIn31":{"a":[1]}}`)
	if status != http.StatusOK || body != "{}" {
		t.Errorf("status %d: %s", status, body)
	}
}

func TestSwarmIDsPass(t *testing.T) {
	h := newHandler(&fakeBackend{})
	status, body := post(h, "NetworkDriver.DeleteNetwork", `{"NetworkID":"xrpqdn6783brf04v7ninq74on"}`)
	if status != http.StatusOK {
		t.Errorf("status %d: %s", status, body)
	}
}

func TestBackendErrorIsAnsweredAndLoggedOnce(t *testing.T) {
	fake := &fakeBackend{hook: func(context.Context, string) error {
		return errors.New(`pool 10.32.0.0/22 is full: 100%s`)
	}}
	h, hook := newLoggedHandler(fake)
	status, body := post(h, "IpamDriver.RequestAddress", `{"PoolID":"p"}`)
	want := `{"Err":"pool 10.32.0.0/22 is full: 100%s","Error":"pool 10.32.0.0/22 is full: 100%s"}`
	if status != http.StatusInternalServerError || body != want {
		t.Errorf("status %d: %s\nwant 500: %s", status, body, want)
	}
	if n := logged(hook, logrus.ErrorLevel); n != 1 {
		t.Errorf("%d errors logged, want 1", n)
	}
}

func TestCallIsLoggedWithItsIDs(t *testing.T) {
	h, hook := newLoggedHandler(&fakeBackend{})
	post(h, "NetworkDriver.Leave", `{"NetworkID":"`+testNetwork+`","EndpointID":"`+testEndpoint+`"}`)
	post(h, "NetworkDriver.EndpointOperInfo", `{"NetworkID":"`+testNetwork+`","EndpointID":"`+testEndpoint+`"}`)
	var infos []*logrus.Entry
	for _, e := range hook.AllEntries() {
		if e.Level == logrus.InfoLevel {
			infos = append(infos, e)
		}
	}
	if len(infos) != 1 {
		t.Fatalf("%d lines at info, want one: Leave changes something, EndpointOperInfo does not", len(infos))
	}
	data := infos[0].Data
	if _, ok := data["took"].(time.Duration); !ok {
		t.Errorf("took is %v", data["took"])
	}
	delete(data, "took")
	want := logrus.Fields{"call": "NetworkDriver.Leave", "network": testNetwork, "endpoint": testEndpoint}
	if diff := cmp.Diff(want, data); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestOnlyKnownCallsByPost(t *testing.T) {
	h := newHandler(&fakeBackend{})
	if status, _ := post(h, "NetworkDriver.Fly", "{}"); status != http.StatusNotFound {
		t.Errorf("unknown call: status %d", status)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/NetworkDriver.GetCapabilities", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", w.Code)
	}
}

// TestHandshakeNeedsNoState: a Docker that starts loads the plugin, whatever state weave is in.
func TestHandshakeNeedsNoState(t *testing.T) {
	h := NewHandshake("local", quiet())
	for call, want := range map[string]string{
		"Plugin.Activate":               `{"Implements":["NetworkDriver","IpamDriver"]}`,
		"NetworkDriver.GetCapabilities": `{"Scope":"local","ConnectivityScope":"global","GwAllocChecker":true}`,
		"IpamDriver.GetCapabilities":    `{"RequiresMACAddress":false}`,
		"IpamDriver.GetDefaultAddressSpaces": `{"LocalDefaultAddressSpace":"weavelocal",` +
			`"GlobalDefaultAddressSpace":"weaveglobal"}`,
	} {
		if status, got := post(h, call, ""); status != http.StatusOK || got != want {
			t.Errorf("%s: status %d: %s\nwant %s", call, status, got, want)
		}
	}
	// Which networks need no address for a gateway.
	for options, skip := range map[string]bool{
		``:                                   false,
		`"com.docker.network.internal":true`: true,
		`"com.docker.network.generic":{"works.weave.gateway":"auto"}`:                               false,
		`"com.docker.network.generic":{"works.weave.gateway":"native"}`:                             false,
		`"com.docker.network.generic":{"works.weave.gateway":"docker"}`:                             true,
		`"com.docker.network.generic":{"works.weave.gateway":"10.0.0.9"}`:                           true,
		`"com.docker.network.generic":{"works.weave.gateway":"container:vpn"}`:                      false,
		`"com.docker.network.generic":{"works.weave.gateway":"nowhere"}`:                            true,
		`"com.docker.network.generic":{"works.weave.bridge":"lo"}`:                                  true,
		`"com.docker.network.generic":{"works.weave.bridge":"lo","works.weave.gateway":"10.0.0.9"}`: false,
		`"com.docker.network.generic":{"works.weave.bridge":"a-new-one"}`:                           false,
		`"com.docker.network.generic":{"com.docker.network.bridge.enable_icc":"true"}`:              false,
	} {
		want := fmt.Sprintf(`{"SkipIPv4":%t,"SkipIPv6":%[1]t}`, skip)
		status, got := post(h, "NetworkDriver.GwAllocCheck", `{"Options":{`+options+`}}`)
		if status != http.StatusOK || got != want {
			t.Errorf("GwAllocCheck %s: status %d: %s, want %s", options, status, got, want)
		}
	}
}

// TestCallOutlivesItsClient: a call that has begun is finished when Docker dies, within the deadline of calls.
func TestCallOutlivesItsClient(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	fake := &fakeBackend{hook: func(ctx context.Context, _ string) error {
		leave()
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("no deadline")
		}
		return ctx.Err()
	}}
	body := strings.NewReader(`{"NetworkID":"` + testNetwork + `"}`)
	r := httptest.NewRequest(http.MethodPost, "/NetworkDriver.DeleteNetwork", body)
	w := httptest.NewRecorder()
	newHandler(fake).ServeHTTP(w, r.WithContext(gone))
	if w.Code != http.StatusOK {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func TestStuckBackendHitsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeBackend{hook: func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		started := time.Now()
		status, body := post(newHandler(fake), "NetworkDriver.DeleteNetwork", `{"NetworkID":"`+testNetwork+`"}`)
		if status != http.StatusInternalServerError || !strings.Contains(body, "deadline exceeded") ||
			time.Since(started) != callTimeout {
			t.Errorf("after %v: status %d: %s", time.Since(started), status, body)
		}
	})
}

// TestStalledCallIsAnswered: Docker gets an answer also while the work of a call waits for what does not end with its
// context, and how it ended at last is logged.
func TestStalledCallIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := make(chan struct{})
		fake := &fakeBackend{hook: func(context.Context, string) error {
			<-disk
			return errors.New("too late")
		}}
		h, hook := newLoggedHandler(fake)
		started := time.Now()
		status, body := post(h, "NetworkDriver.DeleteNetwork", `{"NetworkID":"`+testNetwork+`"}`)
		took := time.Since(started)
		if status != http.StatusInternalServerError || !strings.Contains(body, "disk") || took != answerTimeout {
			t.Errorf("after %v: status %d: %s", took, status, body)
		}
		close(disk)
		synctest.Wait()
		if last := hook.LastEntry(); last.Data[logrus.ErrorKey] == nil || !strings.Contains(last.Message, "has ended") {
			t.Errorf("logged at last: %v %q", last.Data, last.Message)
		}
	})
}

// TestPanicReachesTheDaemon: it is the daemon that answers the call of a defect.
func TestPanicReachesTheDaemon(t *testing.T) {
	h := newHandler(&fakeBackend{hook: func(context.Context, string) error { panic("a defect") }})
	defer func() {
		if got := recover(); got != "a defect" {
			t.Errorf("recovered %v, want the panic", got)
		}
	}()
	post(h, "NetworkDriver.DeleteNetwork", `{"NetworkID":"`+testNetwork+`"}`)
	t.Error("it was answered")
}

// FuzzCall sends anything to every call: it is answered, with JSON, and a refused one does not reach the backend.
func FuzzCall(f *testing.F) {
	seen := map[string]bool{}
	for _, path := range wiretest.Files(f, "testdata/wire") {
		for _, c := range wiretest.Read(f, path) {
			if !seen[c.Call+c.Step] {
				seen[c.Call+c.Step] = true
				f.Add(c.Call, []byte(c.Body()))
			}
		}
	}
	for call := range seen {
		f.Add(call, []byte(`{"NetworkID":"`+testNetwork+`","Interface":null,"IPv4Data":[null],"Options":{"a":[]}}`))
	}
	f.Fuzz(func(t *testing.T, call string, body []byte) {
		if strings.ContainsFunc(call, func(r rune) bool { return r != '.' && (r < 'A' || r > 'z') }) || call == "" {
			t.Skip("not a call")
		}
		fake := &fakeBackend{}
		h := New(Options{Networks: fake, Pools: fake, Scope: "local", Log: quiet()})
		status, reply := post(h, call, string(body))
		switch status {
		case http.StatusOK:
			if !json.Valid([]byte(reply)) {
				t.Errorf("reply %q", reply)
			}
		case http.StatusBadRequest,
			http.StatusInternalServerError: // for options and addresses that can't be read
			var got errorReply
			if err := json.Unmarshal([]byte(reply), &got); err != nil || got.Err == "" {
				t.Errorf("reply %q: %v", reply, err)
			}
			if fake.count() != 0 {
				t.Error("refused, but the backend was called")
			}
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMovedPermanently,
			http.StatusTemporaryRedirect:
		default:
			t.Errorf("status %d: %q", status, reply)
		}
	})
}

// TestRefusalHasDockerAsked: a request that contradicts what weave tracks has weave compare itself with Docker, and the
// user is told so if Docker can be asked.
func TestRefusalHasDockerAsked(t *testing.T) {
	const hint = "weave asks Docker now"
	for _, tt := range []struct {
		err             error
		reachable       bool
		asked, isHinted bool
	}{
		{fmt.Errorf("request pool: %w", ipam.ErrPoolOverlap), true, true, true},
		{fmt.Errorf("request pool: %w", ipam.ErrPoolOverlap), false, true, false},
		{driver.ErrConflict, true, true, true},
		{driver.ErrNotFound, true, true, true},
		{ipam.ErrAddressInUse, true, true, true},
		{ipam.ErrPoolUnknown, true, true, true},
		{driver.ErrInvalid, true, false, false},
		{errors.New("disk full"), true, false, false},
		{nil, true, false, false},
	} {
		asked := 0
		fake := &fakeBackend{hook: func(context.Context, string) error { return tt.err }}
		h := New(Options{Networks: fake, Pools: fake, Scope: "local", Log: quiet(), Recheck: func() bool {
			asked++
			return tt.reachable
		}})
		_, body := post(h, "IpamDriver.RequestAddress", `{"PoolID":"p"}`)
		if (asked == 1) != tt.asked || strings.Contains(body, hint) != tt.isHinted {
			t.Errorf("%v: asked %d times, answer %s", tt.err, asked, body)
		}
	}
}

// TestCalled: each call that was answered is told of, with its ids and how it ended.
func TestCalled(t *testing.T) {
	var told []Call
	failure := errors.New("disk full")
	fake := &fakeBackend{hook: func(ctx context.Context, call string) error {
		if call == "NetworkDriver.Leave" {
			return failure
		}
		return nil
	}}
	h := New(Options{Networks: fake, Pools: fake, Scope: "local", Log: quiet(), Called: func(c Call) {
		told = append(told, c)
	}})
	ids := `{"NetworkID":"` + strings.Repeat("a", 64) + `","EndpointID":"` + strings.Repeat("e", 64) + `"}`
	post(h, "NetworkDriver.DeleteEndpoint", ids)
	post(h, "NetworkDriver.Leave", ids)
	post(h, "NetworkDriver.Leave", "nonsense")
	if len(told) != 3 {
		t.Fatalf("told of %+v, want 3 calls", told)
	}
	for i, want := range []struct {
		name  string
		ids   bool
		fails bool
	}{{"NetworkDriver.DeleteEndpoint", true, false}, {"NetworkDriver.Leave", true, true},
		{"NetworkDriver.Leave", false, true}} {
		c := told[i]
		if c.Name != want.name || (len(c.Network) == 64 && len(c.Endpoint) == 64) != want.ids ||
			(c.Err != nil) != want.fails || c.Took <= 0 {
			t.Errorf("told of %+v, want %+v", c, want)
		}
	}
	if !errors.Is(told[1].Err, failure) {
		t.Errorf("error %v, want %v", told[1].Err, failure)
	}
}
