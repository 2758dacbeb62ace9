// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"

	"github.com/weaveplugin/weave/ipam"
)

// TestRecordedIPAMCalls plays what Docker has sent, and compares the answers with recorded ones of a stub as far as
// these follow from the requests.
func TestRecordedIPAMCalls(t *testing.T) {
	files, err := filepath.Glob("testdata/ipam/*.jsonl")
	if err != nil || len(files) != 4 {
		t.Fatalf("testdata/ipam has %d recordings (%v), want 4", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			p := ipamPlayer{t: t, calls: newIPAMCalls(t), ids: map[string]string{}, addresses: map[string]string{}}
			lines := bufio.NewScanner(r)
			for lines.Scan() {
				p.play(lines.Bytes())
			}
			if err := lines.Err(); err != nil {
				t.Fatal(err)
			}
			if left := p.calls.pools.(*ipam.IPAM).Pools(); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// ipamPlayer plays recorded calls. Where Docker let the stub choose, weave's answers differ from the stub's.
type ipamPlayer struct {
	t         *testing.T
	calls     ipamCalls
	ids       map[string]string // weave's ids of pools, by the stub's
	addresses map[string]string // weave's addresses, by the stub's pool id and address
}

func (p ipamPlayer) play(line []byte) {
	p.t.Helper()
	var call struct {
		Step, Call        string
		Request, Response json.RawMessage
	}
	unmarshal := func(data []byte, v any) {
		p.t.Helper()
		if err := json.Unmarshal(data, v); err != nil {
			p.t.Fatal(err)
		}
	}
	unmarshal(line, &call)
	switch call.Call {
	case "IpamDriver.RequestPool":
		var request dockeripam.RequestPoolRequest
		var want dockeripam.RequestPoolResponse
		unmarshal(call.Request, &request)
		unmarshal(call.Response, &want)
		if len(request.Options) > 0 { // made up with --ipam-opt
			if _, err := p.calls.requestPool(p.t.Context(), &request); !errors.Is(err, ipam.ErrInvalid) {
				p.t.Errorf("%s: %s: %v: want ErrInvalid", call.Step, call.Request, err)
			}
			request.Options = nil
		}
		got, err := p.calls.requestPool(p.t.Context(), &request)
		if err != nil || request.Pool != "" && got.Pool != want.Pool {
			p.t.Fatalf("%s: %s: %v, %v", call.Step, call.Request, got, err)
		}
		p.ids[want.PoolID] = got.PoolID
	case "IpamDriver.RequestAddress":
		var request dockeripam.RequestAddressRequest
		var want dockeripam.RequestAddressResponse
		unmarshal(call.Request, &request)
		unmarshal(call.Response, &want)
		recorded := request.PoolID
		request.PoolID = p.ids[recorded]
		got, err := p.calls.requestAddress(p.t.Context(), &request)
		if err != nil || request.Address != "" && got.Address != want.Address {
			p.t.Fatalf("%s: %s: %v, %v: want %v", call.Step, call.Request, got, err, want)
		}
		ours, _, _ := strings.Cut(got.Address, "/")
		theirs, _, _ := strings.Cut(want.Address, "/")
		p.addresses[recorded+theirs] = ours
	case "IpamDriver.ReleaseAddress":
		var request dockeripam.ReleaseAddressRequest
		unmarshal(call.Request, &request)
		request.Address = p.addresses[request.PoolID+request.Address]
		request.PoolID = p.ids[request.PoolID]
		if _, err := p.calls.releaseAddress(p.t.Context(), &request); err != nil {
			p.t.Errorf("%s: %s: %v", call.Step, call.Request, err)
		}
	case "IpamDriver.ReleasePool":
		var request dockeripam.ReleasePoolRequest
		unmarshal(call.Request, &request)
		request.PoolID = p.ids[request.PoolID]
		if _, err := p.calls.releasePool(p.t.Context(), &request); err != nil {
			p.t.Errorf("%s: %s: %v", call.Step, call.Request, err)
		}
	default:
		p.t.Fatalf("unexpected call %s", call.Call)
	}
}
