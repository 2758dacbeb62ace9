package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wireCall is one recorded call of an Engine, and what a stub answered.
type wireCall struct {
	Step     string
	Call     string
	Request  json.RawMessage // null: the call has no body
	Response json.RawMessage
}

// wireFiles are the recordings: three Engines on one machine, and four nodes of Swarms.
func wireFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/wire/*.jsonl")
	if err != nil || len(files) != 7 {
		t.Fatalf("testdata/wire has %d recordings (%v), want 7", len(files), err)
	}
	return files
}

func readWire(t testing.TB, path string) []wireCall {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []wireCall
	for dec := json.NewDecoder(bufio.NewReader(f)); ; {
		var c wireCall
		err := dec.Decode(&c)
		if err == io.EOF {
			return calls
		}
		if err != nil {
			t.Fatalf("%s: call %d: %v", path, len(calls)+1, err)
		}
		calls = append(calls, c)
	}
}

// body is the recorded body; a call without one has none.
func (c wireCall) body() string {
	if string(c.Request) == "null" {
		return ""
	}
	return string(c.Request)
}

// post sends a call to h as an Engine does and returns the status and body of the answer.
func post(h http.Handler, call, body string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, "http://plugin.moby.localhost/"+call, strings.NewReader(body))
	r.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// checkReply holds an answer against what an Engine makes of it.
func checkReply(call, request, reply string) error {
	var req, resp struct {
		Interface     struct{ Address, AddressIPv6, MacAddress string }
		InterfaceName struct{ SrcName, DstPrefix string }
		Gateway       string
		GatewayIPv6   string
		StaticRoutes  []any
		Implements    []string
		Scope         string
		PoolID, Pool  string
		Address       string
		Err, Error    string
	}
	if request != "" {
		if err := json.Unmarshal([]byte(request), &req); err != nil {
			return err
		}
	}
	if err := json.Unmarshal([]byte(reply), &resp); err != nil {
		return err
	}
	switch {
	case resp.Err != "" || resp.Error != "":
		return fmt.Errorf("an error with status 200: %s", reply)
	case call == "Plugin.Activate" && len(resp.Implements) != 2:
		return fmt.Errorf("implements %q", resp.Implements)
	case call == "NetworkDriver.GetCapabilities" && resp.Scope != "local":
		return fmt.Errorf("scope %q", resp.Scope)
	case call == "NetworkDriver.CreateEndpoint":
		// libnetwork calls it a modification of the interface if a field is in both, even if it is the same.
		in, out := req.Interface, resp.Interface
		if in.Address != "" && out.Address != "" || in.AddressIPv6 != "" && out.AddressIPv6 != "" || in.MacAddress != "" && out.MacAddress != "" {
			return fmt.Errorf("interface %+v answers %+v: a field of the request is answered", out, in)
		}
		if in.MacAddress == "" && out.MacAddress == "" {
			return fmt.Errorf("no MAC, neither asked for nor answered")
		}
	case call == "NetworkDriver.Join":
		if resp.InterfaceName.SrcName == "" || resp.InterfaceName.DstPrefix != "eth" {
			return fmt.Errorf("interface name %+v", resp.InterfaceName)
		}
		if resp.Gateway != "" || resp.GatewayIPv6 != "" || len(resp.StaticRoutes) > 0 {
			return fmt.Errorf("a gateway or a route: docker_gwbridge would stay away: %s", reply)
		}
	case call == "IpamDriver.RequestPool" && (resp.PoolID == "" || resp.Pool == ""):
		return fmt.Errorf("pool %q with id %q", resp.Pool, resp.PoolID)
	case call == "IpamDriver.RequestAddress" && !strings.Contains(resp.Address, "/"):
		return fmt.Errorf("address %q is not in CIDR form", resp.Address)
	}
	return nil
}

// TestRecordedCalls replays what Engines sent: each call is understood, reaches the backend if it has to, and is answered
// in a form that the Engine takes. The answers of the three Engines' files are held against golden files.
func TestRecordedCalls(t *testing.T) {
	for _, path := range wireFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			fake := &fakeBackend{}
			h := newTestSocket(t, fake)
			var replies bytes.Buffer
			wantCalls := map[string]int{}
			for i, c := range readWire(t, path) {
				status, got := post(h, c.Call, c.body())
				if status != http.StatusOK {
					t.Fatalf("line %d: %s %s: status %d: %s", i+1, c.Call, c.Request, status, got)
				}
				if err := checkReply(c.Call, c.body(), got); err != nil {
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
			checkGolden(t, filepath.Join("testdata", "replies", strings.TrimSuffix(filepath.Base(path), ".jsonl")+".golden"), replies.String())
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
	if *updateScripts {
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

// TestCheckReply keeps checkReply honest: recorded answers that Engines accepted pass it, and the mistakes
// that it is there for don't.
func TestCheckReply(t *testing.T) {
	for _, path := range wireFiles(t) {
		for i, c := range readWire(t, path) {
			if c.Call == "NetworkDriver.GetCapabilities" || c.Call == "NetworkDriver.Join" {
				continue // the scope differs in the Swarm of scope global; the stub's Join is checked below
			}
			if err := checkReply(c.Call, c.body(), string(c.Response)); err != nil {
				t.Errorf("%s:%d: %s: an Engine took this: %v", path, i+1, c.Call, err)
			}
		}
	}
	for _, bad := range []struct{ call, request, reply string }{
		{"NetworkDriver.CreateEndpoint", `{"Interface":{"Address":"10.0.0.1/8"}}`, `{"Interface":{"Address":"10.0.0.1/8","MacAddress":"02:00:00:00:00:01"}}`},
		{"NetworkDriver.CreateEndpoint", `{"Interface":{"MacAddress":"02:00:00:00:00:01"}}`, `{"Interface":{"MacAddress":"02:00:00:00:00:01"}}`},
		{"NetworkDriver.CreateEndpoint", `{"Interface":{}}`, `{"Interface":null}`},
		{"NetworkDriver.Join", `{}`, `{"InterfaceName":{"SrcName":"","DstPrefix":""}}`},
		{"NetworkDriver.Join", `{}`, `{"InterfaceName":{"SrcName":"wvc-1","DstPrefix":"eth"},"Gateway":"10.0.0.1"}`},
		{"IpamDriver.RequestAddress", `{}`, `{"Address":"10.0.0.1"}`},
		{"IpamDriver.RequestPool", `{}`, `{"Pool":"10.0.0.0/8"}`},
		{"IpamDriver.ReleasePool", `{}`, `{"Error":"no"}`},
	} {
		if err := checkReply(bad.call, bad.request, bad.reply); err == nil {
			t.Errorf("%s %s: %s passes", bad.call, bad.request, bad.reply)
		}
	}
}
