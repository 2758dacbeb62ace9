// SPDX-License-Identifier: Apache-2.0

package mac

import (
	"encoding/json"
	"net"
	"testing"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]string{
		"02:42:0a:20:00:05": "02:42:0a:20:00:05",
		"02:42:0A:20:00:ff": "02:42:0a:20:00:ff",
		"00:00:00:00:00:00": "",
	} {
		if a, err := Parse(s); err != nil || a.String() != want {
			t.Errorf("Parse(%q) is %q, %v, want %q", s, a, err, want)
		}
	}
	for _, s := range []string{
		"", "02", "02:42:0a:20:00", "02:42:0a:20:00:05:06", "02-42-0a-20-00-05", "02:42:0a:20:00:0g", "0242.0a20.0005",
		"02:42:0a:20:00:5 ", "02:42:0a:20:00x05",
	} {
		if a, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) is %v, want an error", s, a)
		}
	}
}

func TestKinds(t *testing.T) {
	for s, unicast := range map[string]bool{
		"02:42:0a:20:00:05": true, "01:00:5e:00:00:01": false, "ff:ff:ff:ff:ff:ff": false,
	} {
		if a := MustParse(s); a.IsUnicast() != unicast || a.IsZero() {
			t.Errorf("%s: unicast %t, zero %t", s, a.IsUnicast(), a.IsZero())
		}
	}
}

func TestFromBytes(t *testing.T) {
	for want, b := range map[string][]byte{
		"02:42:0a:20:00:05": {2, 0x42, 0xa, 0x20, 0, 5},
		"":                  nil,
	} {
		if a := FromBytes(b); a.String() != want {
			t.Errorf("%x is %q, want %q", b, a, want)
		}
	}
	if a := FromBytes([]byte{10, 0, 0, 1}); !a.IsZero() {
		t.Errorf("a tunnel's address is %s, want none", a)
	}
}

func TestJSON(t *testing.T) {
	type record struct {
		MAC Address `json:"mac"`
	}
	for _, want := range []record{{}, {MustParse("02:42:0a:20:00:05")}} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got record
		if err := json.Unmarshal(b, &got); err != nil || got != want {
			t.Errorf("%s is decoded as %v, %v", b, got, err)
		}
	}
	if err := json.Unmarshal([]byte(`{"mac":"none"}`), new(record)); err == nil {
		t.Error("a text that is no address was decoded")
	}
}

// FuzzParse holds Parse against the standard library, which accepts other forms and lengths as well.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"02:42:0a:20:00:05", "02-42-0a-20-00-05", "02:42:0a:20:00:05:06:07", ":::::::::::::::::",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil {
			return
		}
		want, err := net.ParseMAC(s)
		if err != nil || Address(want) != a {
			t.Errorf("Parse(%q) is %v, net.ParseMAC %v, %v", s, a, want, err)
		}
	})
}
