// SPDX-License-Identifier: Apache-2.0

// Package wiretest reads recordings of what Docker sent to a plugin, and checks a plugin's answers as Docker does. It
// is for tests only.
package wiretest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Call is one recorded call of Docker, and what a stub answered.
type Call struct {
	Step     string
	Call     string
	Request  json.RawMessage // null: the call has no body
	Response json.RawMessage
}

// Files returns the paths of the recordings in dir, which is remote's testdata/wire: of three versions of Docker on one
// machine, and of four nodes of Swarms.
func Files(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) != 7 {
		t.Fatalf("%s has %d recordings (%v), want 7", dir, len(files), err)
	}
	return files
}

// Read returns the calls of the recording at path.
func Read(t testing.TB, path string) []Call {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []Call
	for dec := json.NewDecoder(bufio.NewReader(f)); ; {
		var c Call
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

// Body returns the recorded body; a call without one has none.
func (c Call) Body() string {
	if string(c.Request) == "null" {
		return ""
	}
	return string(c.Request)
}

// unknownOptions are options in the recordings, which were made with a stub that takes any. Weave refuses them.
var unknownOptions = map[string]string{"k": `"k":"v"`, "works.weave.network": `"works.weave.network":"g"`}

// WithoutUnknownOptions checks that a call is refused for each option in its request that weave does not know, and
// returns the request without these options. Send makes a call and returns the status and the body of the answer.
func WithoutUnknownOptions(t testing.TB, call, request string, send func(call, request string) (int, string)) string {
	t.Helper()
	for option, text := range unknownOptions {
		if !strings.Contains(request, text) || call == "NetworkDriver.GwAllocCheck" {
			continue
		}
		status, got := send(call, request)
		if status != http.StatusInternalServerError || !strings.Contains(got, "option "+option) {
			t.Errorf("%s %s: %d %s, want a refusal that names the option", call, request, status, got)
		}
		request = strings.ReplaceAll(request, text, "")
	}
	return request
}

// CheckReply returns an error if Docker would refuse the reply to this request, or take it for something else than
// meant.
func CheckReply(call, request, reply string) error {
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
		Options       map[string]any
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
		if in.Address != "" && out.Address != "" || in.AddressIPv6 != "" && out.AddressIPv6 != "" ||
			in.MacAddress != "" && out.MacAddress != "" {
			return fmt.Errorf("interface %+v answers %+v: a field of the request is answered", out, in)
		}
		if in.MacAddress == "" && out.MacAddress == "" {
			return fmt.Errorf("no MAC, neither requested nor answered")
		}
	case call == "NetworkDriver.Join":
		if resp.InterfaceName.SrcName == "" || resp.InterfaceName.DstPrefix != "eth" {
			return fmt.Errorf("interface name %+v", resp.InterfaceName)
		}
		published, _ := req.Options["com.docker.network.portmap"].([]any)
		exposed, _ := req.Options["com.docker.network.endpoint.exposedports"].([]any)
		if len(published)+len(exposed) > 0 && (resp.Gateway != "" || resp.GatewayIPv6 != "") {
			return fmt.Errorf("a gateway for a container with ports: docker_gwbridge would stay away: %s", reply)
		}
		if len(resp.StaticRoutes) > 0 {
			return fmt.Errorf("routes, which Docker refuses addresses for later: %s", reply)
		}
	case call == "IpamDriver.RequestPool" && (resp.PoolID == "" || resp.Pool == ""):
		return fmt.Errorf("pool %q with id %q", resp.Pool, resp.PoolID)
	case call == "IpamDriver.RequestAddress" && !strings.Contains(resp.Address, "/"):
		return fmt.Errorf("address %q is not in CIDR form", resp.Address)
	}
	return nil
}
