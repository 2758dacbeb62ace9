// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
)

// description returns the API's description as the server gives it.
func description(t *testing.T) *openapi3.T {
	t.Helper()
	code, body := get(t, newServer(nil), api.PathOpenAPI)
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestDescribedRoutes: the description has the server's routes with their methods, and no others.
func TestDescribedRoutes(t *testing.T) {
	described, served := map[string]bool{}, map[string]bool{}
	for path, item := range description(t).Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	for _, r := range newServer(nil).routes() {
		for _, method := range r.methods {
			if method != http.MethodHead { // is what GET is
				served[method+" "+r.path] = true
			}
		}
	}
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("routes (-served +described):\n%s", diff)
	}
}

// TestDescribedParameters: a request with another parameter than those that are described is refused, and the refusal
// names these.
func TestDescribedParameters(t *testing.T) {
	for path, item := range description(t).Paths.Map() {
		if item.Get == nil {
			continue
		}
		var names []string
		for _, p := range item.Get.Parameters {
			if p.Value.In == openapi3.ParameterInQuery {
				names = append(names, p.Value.Name)
			}
		}
		want := "no parameter"
		if len(names) > 0 {
			want = strings.Join(names, ", ")
		}
		code, body := get(t, newServer(nil), path+"?zzz=1")
		if code != http.StatusBadRequest || !strings.Contains(body, `unknown; want `+want+`"`) {
			t.Errorf("%s: status %d, %s; described are %q", path, code, body, want)
		}
	}
}

// described are the Go types of the API's objects.
var described = []any{
	api.Network{}, api.Subnet{}, api.Endpoint{}, api.Live{}, api.Drift{}, api.Pool{}, api.Holder{}, api.Host{},
	api.Tunnel{}, api.Status{}, api.EndpointCounts{}, api.Docker{}, api.Cluster{}, api.Reconcile{}, api.Repair{},
	api.Error{}, api.Event{}, api.Cause{}, api.Inspection{}, api.HostEnd{}, api.Station{}, api.FirewallRule{},
	api.DNS{}, api.NsprocRun{}, api.Sandbox{}, api.Link{}, api.Counters{}, api.Route{}, api.Neighbour{}, api.Rule{},
	api.Socket{}, api.Check{}, api.Checked{}, api.CheckLine{}, api.PairCheck{}, api.CheckSummary{}, api.Traffic{},
	api.HostCheck{}, api.HostFinding{},
}

// TestDescribedTypes: each object that is described has the members of its Go type, of the same types, and those are
// required that are always there. Strings of a type of their own have its constants as values.
func TestDescribedTypes(t *testing.T) {
	schemas := description(t).Components.Schemas
	values := constants(t)
	seen := map[string]bool{}
	for _, v := range described {
		typ := reflect.TypeOf(v)
		seen[typ.Name()] = true
		schema := schemas[typ.Name()]
		if schema == nil {
			t.Errorf("%s is not described", typ.Name())
			continue
		}
		members, required := map[string]string{}, []string{}
		for f := range fields(typ) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			members[name] = schemaOf(f.Type)
			if options == "" {
				required = append(required, name)
			}
		}
		got := map[string]string{}
		for name, p := range schema.Value.Properties {
			got[name] = text(p)
		}
		if diff := cmp.Diff(members, got); diff != "" {
			t.Errorf("%s (-Go +described):\n%s", typ.Name(), diff)
		}
		slices.Sort(required)
		always := append([]string{}, schema.Value.Required...)
		slices.Sort(always)
		if diff := cmp.Diff(required, always); diff != "" {
			t.Errorf("%s: required members (-Go +described):\n%s", typ.Name(), diff)
		}
	}
	for name, schema := range schemas {
		if schema.Value.Type.Is("string") {
			var enum []string
			for _, v := range schema.Value.Enum {
				enum = append(enum, v.(string))
			}
			if diff := cmp.Diff(values[name], enum); diff != "" {
				t.Errorf("values of %s (-Go +described):\n%s", name, diff)
			}
			continue
		}
		if !seen[name] {
			t.Errorf("%s is described, and compared with no Go type", name)
		}
	}
}

// fields are the fields of a struct that JSON has, those of embedded structs among them.
func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(typ) {
			if !f.Anonymous && f.Tag.Get("json") != "-" && !yield(f) {
				return
			}
		}
	}
}

// schemaOf returns how a Go type is described: "string", "array of integer", or the name of a type of the API's.
func schemaOf(typ reflect.Type) string {
	switch typ {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.Prefix](),
		reflect.TypeFor[netip.AddrPort]():
		return "string"
	case reflect.TypeFor[json.RawMessage]():
		return "object"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return schemaOf(typ.Elem())
	case reflect.Slice:
		return "array of " + schemaOf(typ.Elem())
	case reflect.Bool:
		return "boolean"
	case reflect.Float64:
		return "number"
	case reflect.Int, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.String:
		if typ != reflect.TypeFor[string]() {
			return typ.Name()
		}
		return "string"
	}
	return typ.Name()
}

// text returns a schema in the words of schemaOf.
func text(s *openapi3.SchemaRef) string {
	switch {
	case s.Ref != "":
		return filepath.Base(s.Ref)
	case len(s.Value.AllOf) == 1: // with a description
		return text(s.Value.AllOf[0])
	case s.Value.Type.Is("array"):
		return "array of " + text(s.Value.Items)
	}
	return s.Value.Type.Slice()[0]
}

// constants returns the values of the constants of each string type of the package api, in the order of the source.
func constants(t *testing.T) map[string][]string {
	t.Helper()
	values := map[string][]string{}
	for _, name := range []string{"types.go", "events.go", "check.go", "hostcheck.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			typ, named := spec.Type.(*ast.Ident)
			literal, isLiteral := spec.Values[0].(*ast.BasicLit)
			if named && isLiteral {
				value, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				values[typ.Name] = append(values[typ.Name], value)
			}
			return true
		})
	}
	return values
}

// TestAnswersAreAsDescribed: the recorded answers, which the server's are compared with, fit the description.
func TestAnswersAreAsDescribed(t *testing.T) {
	doc := description(t)
	for file, path := range map[string]string{
		"networks": api.PathNetworks, "endpoints": api.PathEndpoints, "live": api.PathEndpoints,
		"remote": api.PathEndpoints, "traffic": api.PathTraffic, "pools": api.PathPools, "hosts": api.PathHosts,
		"cluster": api.PathCluster, "status": api.PathStatus,
	} {
		recorded, err := os.ReadFile(filepath.Join("..", "testdata", file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var answer any
		if err := json.Unmarshal(recorded, &answer); err != nil {
			t.Fatal(err)
		}
		schema := doc.Paths.Value(path).Get.Responses.Status(http.StatusOK).Value.Content["application/json"].Schema
		if err := schema.Value.VisitJSON(answer); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	// All types of events are in the order of EventTypes.
	var types []string
	for _, typ := range api.EventTypes {
		types = append(types, string(typ))
	}
	if diff := cmp.Diff(constants(t)["EventType"], types); diff != "" {
		t.Errorf("EventTypes (-constants +list):\n%s", diff)
	}
}
