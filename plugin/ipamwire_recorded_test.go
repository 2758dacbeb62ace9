package ipam

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	docker "github.com/docker/go-plugins-helpers/ipam"
)

// TestRecordedCalls plays what real Engines have sent, and compares the answers with recorded ones of a stub as far as
// these follow from the requests.
func TestRecordedCalls(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded calls: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			f := newFixture(t, Options{})
			ids := map[string]string{}       // ours, by recorded ones
			addresses := map[string]string{} // ours, by recorded ones, of pools that Docker let the plugin choose
			for s := bufio.NewScanner(r); s.Scan(); {
				f.play(s.Bytes(), ids, addresses)
			}
			if left := f.Pools(); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

func (f *fixture) play(line []byte, ids, addresses map[string]string) {
	f.t.Helper()
	var call struct {
		Step, Call        string
		Request, Response json.RawMessage
	}
	unmarshal := func(data []byte, v any) {
		f.t.Helper()
		if err := json.Unmarshal(data, v); err != nil {
			f.t.Fatal(err)
		}
	}
	unmarshal(line, &call)
	switch call.Call {
	case "IpamDriver.RequestPool":
		var request docker.RequestPoolRequest
		var want docker.RequestPoolResponse
		unmarshal(call.Request, &request)
		unmarshal(call.Response, &want)
		if len(request.Options) > 0 { // made up with --ipam-opt
			if _, err := f.RequestPool(f.t.Context(), &request); !errors.Is(err, ErrInvalid) {
				f.t.Errorf("%s: %s: %v: want ErrInvalid", call.Step, call.Request, err)
			}
			request.Options = nil
		}
		got, err := f.RequestPool(f.t.Context(), &request)
		if err != nil || request.Pool != "" && got.Pool != want.Pool {
			f.t.Fatalf("%s: %s: %v, %v", call.Step, call.Request, got, err)
		}
		ids[want.PoolID] = got.PoolID
	case "IpamDriver.RequestAddress":
		var request docker.RequestAddressRequest
		var want docker.RequestAddressResponse
		unmarshal(call.Request, &request)
		unmarshal(call.Response, &want)
		recorded := request.PoolID
		request.PoolID = ids[recorded]
		got, err := f.RequestAddress(f.t.Context(), &request)
		if err != nil || strings.HasPrefix(request.PoolID, recorded) && got.Address != want.Address {
			f.t.Fatalf("%s: %s: %v, %v: want %v", call.Step, call.Request, got, err, want)
		}
		ours, _, _ := strings.Cut(got.Address, "/")
		theirs, _, _ := strings.Cut(want.Address, "/")
		addresses[recorded+theirs] = ours
	case "IpamDriver.ReleaseAddress":
		var request docker.ReleaseAddressRequest
		unmarshal(call.Request, &request)
		f.release(ids[request.PoolID], addresses[request.PoolID+request.Address])
	case "IpamDriver.ReleasePool":
		var request docker.ReleasePoolRequest
		unmarshal(call.Request, &request)
		f.releasePool(ids[request.PoolID])
	default:
		f.t.Fatalf("unexpected call %s", call.Call)
	}
}
