// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/internal/mac"
)

var comparePrefixes = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

const goodConfigure = `{"version":1,"configure":{"peer":7,"mac":"02:00:00:00:00:0a",` +
	`"addresses":["10.32.0.1/22","fd00::1/64"],"announce":true}}`

// configure is a request to configure with an additional field.
func configure(field string) string {
	return `{"version":1,"configure":{"peer":1,"mac":"02:00:00:00:00:01",` + field + `}}`
}

func TestReadRequest(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     *Request
	}{
		{"list", `{"version":1,"list":{}}`, &Request{Version: 1, List: &List{}}},
		{"list, written otherwise", `{"list":{}, "version":1}`, &Request{Version: 1, List: &List{}}},
		{"list of more", `{"version":1,"list":{"routes":true,"neighbours":true}}`,
			&Request{Version: 1, List: &List{Routes: true, Neighbours: true}}},
		{"configure", goodConfigure, &Request{Version: 1, Configure: &Configure{
			Peer: 7, MAC: mac.MustParse("02:00:00:00:00:0a"), Announce: true,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.32.0.1/22"), netip.MustParsePrefix("fd00::1/64")},
		}}},
		{"names", `{"version":1,"names":{}}`, &Request{Version: 1, Names: &Names{}}},
		{"neither list nor configure", `{"version":1}`, nil},
		{"list and configure", strings.Replace(goodConfigure, `{"version":1,`, `{"version":1,"list":{},`, 1), nil},
		{"unknown field", `{"version":1,"list":{},"move":{}}`, nil},
		{"unknown field inside", `{"version":1,"list":{"x":1}}`, nil},
		{"two requests", `{"version":1,"list":{}}{"version":1,"list":{}}`, nil},
		{"no JSON", `list`, nil},
		{"no peer", `{"version":1,"configure":{"mac":"02:00:00:00:00:01"}}`, nil},
		{"bad MAC", `{"version":1,"configure":{"peer":1,"mac":"02:00:00:00:00:1"}}`, nil},
		{"no MAC", `{"version":1,"configure":{"peer":1}}`, nil},
		{"empty MAC", `{"version":1,"configure":{"peer":1,"mac":""}}`, nil},
		{"MAC of zeros", `{"version":1,"configure":{"peer":1,"mac":"00:00:00:00:00:00"}}`, nil},
		{"upper case MAC", `{"version":1,"configure":{"peer":1,"mac":"02:00:00:00:00:0A"}}`,
			&Request{Version: 1, Configure: &Configure{
				Peer: 1, MAC: mac.MustParse("02:00:00:00:00:0a"),
			}}},
		{"bad address", configure(`"addresses":["10.32.0.1"]`), nil},
		{"empty address", configure(`"addresses":[""]`), nil},
		{"mapped address", configure(`"addresses":["::ffff:10.0.0.1/120"]`), nil},
		{"too long", `{"version":1,"list":{}}` + strings.Repeat(" ", MaxRequest), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ReadRequest(strings.NewReader(tc.in))
			if (err == nil) != (tc.want != nil) {
				t.Fatalf("got error %v", err)
			}
			if diff := cmp.Diff(tc.want, got, comparePrefixes); diff != "" {
				t.Error("(-want +got)\n", diff)
			}
		})
	}
}

func TestListRequest(t *testing.T) {
	got, err := json.Marshal(Request{Version: Version, List: &List{}})
	if err != nil || string(got) != listRequest {
		t.Errorf("the plugin sends %s (error %v), want %s", got, err, listRequest)
	}
}

func TestOtherVersion(t *testing.T) {
	// The unknown fields are not the reason that is reported.
	_, err := ReadRequest(strings.NewReader(`{"version":2,"list":{},"probe":{}}`))
	if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "the plugin speaks version 2, nsproc version 1") {
		t.Errorf("request: got error %v", err)
	}
	_, err = DecodeReply([]byte(`{"version":2,"answer":[]}`))
	if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "nsproc speaks version 2, the plugin version 1") {
		t.Errorf("reply: got error %v", err)
	}
}

func TestNoRequest(t *testing.T) {
	if _, err := ReadRequest(strings.NewReader("")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got error %v, want an unexpected end", err)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(`{"version":1,"list":{}}`))
	f.Add([]byte(goodConfigure))
	f.Add([]byte(`{"version":1,"names":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := ReadRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadRequest(bytes.NewReader(again))
		if err != nil {
			t.Fatalf("%s became %s: %v", b, again, err)
		}
		if diff := cmp.Diff(req, got, comparePrefixes, cmpopts.EquateEmpty()); diff != "" {
			t.Error("(-first +second)\n", diff)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add([]byte(`{"version":1,"skipped":["x"]}`))
	f.Add([]byte(`{"version":1,"error":{"op":"list","message":"no","errno":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, err := DecodeReply(b)
		if err != nil {
			_ = err.Error()
			return
		}
		again, err := json.Marshal(reply)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeReply(again)
		if err != nil {
			t.Fatalf("%s became %s: %v", b, again, err)
		}
		if diff := cmp.Diff(reply, got, comparePrefixes, cmpopts.EquateEmpty()); diff != "" {
			t.Error("(-first +second)\n", diff)
		}
	})
}
