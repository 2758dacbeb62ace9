// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
)

// TestEveryFieldHasAHead: without a head, a template with `table ` would fail, or print nonsense, for a new field.
func TestEveryFieldHasAHead(t *testing.T) {
	checkHeads(t, reflect.TypeFor[api.Endpoint](), psHeads)
	checkHeads(t, reflect.TypeFor[api.Network](), networkHeads)
	checkHeads(t, reflect.TypeFor[api.Host](), hostHeads)
}

func checkHeads(t *testing.T, of reflect.Type, heads map[string]any) {
	t.Helper()
	for field := range of.Fields() {
		head, ok := heads[field.Name]
		if !ok {
			t.Errorf("%s.%s has no head", of, field.Name)
			continue
		}
		_, list := head.([]string)
		if want := field.Type.Kind() == reflect.Slice; list != want {
			t.Errorf("%s.%s: the head is a list: %t, want %t", of, field.Name, list, want)
		}
		if inner, ok := head.(map[string]any); ok {
			checkHeads(t, field.Type.Elem(), inner)
		}
	}
	if len(heads) != of.NumField() {
		t.Errorf("%d heads for the %d fields of %s", len(heads), of.NumField(), of)
	}
}

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ text, keep, want string }{
		{"web-1 Käse 網", "", "web-1 Käse 網"},
		{"\x1b[31mred\a", "", "\uFFFD[31mred\uFFFD"},
		{"csi \u009b2J, right to left \u202e", "", "csi \uFFFD2J, right to left \uFFFD"},
		{"not UTF-8: \xff", "", "not UTF-8: \uFFFD"},
		{"two\nlines\tand a tab", "", "two\uFFFDlines\uFFFDand a tab"},
		{"two\nlines\tand a tab", "\n\t", "two\nlines\tand a tab"},
	} {
		if got := printable(tt.text, tt.keep); got != tt.want {
			t.Errorf("printable(%q, %q) = %q, want %q", tt.text, tt.keep, got, tt.want)
		}
	}
}

// TestPrintJSON: the JSON means the same, in characters that no terminal takes for a command.
func TestPrintJSON(t *testing.T) {
	want := []string{"web-1 Käse 網", "\x1b[31m \x7f csi \u009b2J", "right to left \u202e", "tag \U000e0041"}
	var b strings.Builder
	if err := printJSON(&b, want); err != nil {
		t.Fatal(err)
	}
	if safe := printable(b.String(), "\n"); safe != b.String() {
		t.Errorf("not printable: %q", b.String())
	}
	var got []string
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTruncate(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{{"abcdef", 3, "abc"}, {"abc", 3, "abc"}, {"ab", 3, "ab"}, {"äöü", 2, "äö"}, {"abc", 0, ""}, {"abc", -1, "abc"}} {
		if got := truncate(tt.s, tt.n); got != tt.want {
			t.Errorf("truncate(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.want)
		}
	}
}

// FuzzFormat: no template makes the command panic.
func FuzzFormat(f *testing.F) {
	for _, format := range []string{
		"table", "json", "{{.ID}}", `table {{.ID}}\t{{.Live.MAC}}`, `{{join .Addresses " "}}`, "{{",
		`{{truncate .ID -1}}`, `{{index .Drift 7}}`,
	} {
		f.Add(format)
	}
	f.Fuzz(func(t *testing.T, format string) {
		rows := []api.Endpoint{{ID: "e1"}, {ID: "e2", Live: &api.Live{}, Drift: []api.Drift{{}}}}
		l := listing[api.Endpoint]{rows, psColumns(false, true, true), psHeads}
		_ = l.print(io.Discard, format) // it may be an error
	})
}
