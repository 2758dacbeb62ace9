// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/plugin/remote/wiretest"
)

var updateGolden = flag.Bool("update", false, "write the answers to the recorded calls into testdata/replies")

// post sends a call to h as Docker does and returns the status and body of the answer.
func post(h http.Handler, call, body string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, "http://plugin.moby.localhost/"+call, strings.NewReader(body))
	r.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestRecordedCalls replays what Docker sent: each call is understood, reaches the backend if it has to, and is
// answered in a form that Docker takes. The answers are compared with golden files.
func TestRecordedCalls(t *testing.T) {
	for _, path := range wiretest.Files(t, "testdata/wire") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			fake := &fakeBackend{}
			h := newHandler(fake)
			var replies bytes.Buffer
			wantCalls := map[string]int{}
			for i, c := range wiretest.Read(t, path) {
				post := func(call, request string) (int, string) { return post(h, call, request) }
				request := wiretest.WithoutUnknownOptions(t, c.Call, c.Body(), post)
				status, got := post(c.Call, request)
				if status != http.StatusOK {
					t.Fatalf("line %d: %s %s: status %d: %s", i+1, c.Call, request, status, got)
				}
				if err := wiretest.CheckReply(c.Call, request, got); err != nil {
					t.Errorf("line %d: %s: %v", i+1, c.Call, err)
				}
				wantCalls[c.Call]++
				fmt.Fprintf(&replies, "%s %s\n", c.Call, got)
			}
			for call := range unbacked {
				delete(wantCalls, call)
			}
			if diff := cmp.Diff(wantCalls, fake.calls); diff != "" {
				t.Errorf("calls of the backend (-want +got):\n%s", diff)
			}
			golden := strings.TrimSuffix(filepath.Base(path), ".jsonl") + ".golden"
			checkGolden(t, filepath.Join("testdata", "replies", golden), replies.String())
		})
	}
}

// unbacked are the calls that are answered without the backend.
var unbacked = map[string]bool{
	"Plugin.Activate": true, "NetworkDriver.GetCapabilities": true, "NetworkDriver.GwAllocCheck": true,
	"NetworkDriver.AllocateNetwork": true, "NetworkDriver.FreeNetwork": true, "NetworkDriver.EndpointOperInfo": true,
	"NetworkDriver.DiscoverNew": true, "NetworkDriver.DiscoverDelete": true,
	"IpamDriver.GetCapabilities": true, "IpamDriver.GetDefaultAddressSpaces": true,
}

// checkGolden compares got with the file, or writes it if the test runs with -update.
func checkGolden(t *testing.T, path, got string) {
	t.Helper()
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestCheckReply: recorded answers that Docker accepted pass CheckReply, and the mistakes that it is there for don't.
func TestCheckReply(t *testing.T) {
	for _, path := range wiretest.Files(t, "testdata/wire") {
		for i, c := range wiretest.Read(t, path) {
			if c.Call == "NetworkDriver.GetCapabilities" || c.Call == "NetworkDriver.Join" {
				continue // the scope differs in the Swarm of scope global; the stub's Join is checked below
			}
			if err := wiretest.CheckReply(c.Call, c.Body(), string(c.Response)); err != nil {
				t.Errorf("%s:%d: %s: Docker took this: %v", path, i+1, c.Call, err)
			}
		}
	}
	for _, bad := range []struct{ call, request, reply string }{
		{
			"NetworkDriver.CreateEndpoint", `{"Interface":{"Address":"10.0.0.1/8"}}`,
			`{"Interface":{"Address":"10.0.0.1/8","MacAddress":"02:00:00:00:00:01"}}`,
		},
		{
			"NetworkDriver.CreateEndpoint", `{"Interface":{"MacAddress":"02:00:00:00:00:01"}}`,
			`{"Interface":{"MacAddress":"02:00:00:00:00:01"}}`,
		},
		{"NetworkDriver.CreateEndpoint", `{"Interface":{}}`, `{"Interface":null}`},
		{"NetworkDriver.Join", `{}`, `{"InterfaceName":{"SrcName":"","DstPrefix":""}}`},
		{
			"NetworkDriver.Join", `{"Options":{"com.docker.network.portmap":[{"Port":80}]}}`,
			`{"InterfaceName":{"SrcName":"wvc-1","DstPrefix":"eth"},"Gateway":"10.0.0.1"}`,
		},
		{"IpamDriver.RequestAddress", `{}`, `{"Address":"10.0.0.1"}`},
		{"IpamDriver.RequestPool", `{}`, `{"Pool":"10.0.0.0/8"}`},
		{"IpamDriver.ReleasePool", `{}`, `{"Error":"no"}`},
	} {
		if err := wiretest.CheckReply(bad.call, bad.request, bad.reply); err == nil {
			t.Errorf("%s %s: %s passes", bad.call, bad.request, bad.reply)
		}
	}
}
