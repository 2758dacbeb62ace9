// SPDX-License-Identifier: Apache-2.0

// Package rules holds the project's own rules, which go vet and staticcheck don't know: which package may import which,
// that nothing but the tests can put a thread into another network namespace, where a file names its license, and how
// long a line may be. It is for tests only.
package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/weaveplugin/weave"

// layers orders the folders: a package imports packages of its own folder and of lower layers, no others. A package
// belongs to the longest of these folders that it is in.
var layers = map[string]int{
	"integration":        7,
	"plugin":             6, // the main package, which alone knows all of those below it
	"plugin/cli":         5,
	"plugin/clustersync": 5,
	"plugin/daemon":      5,
	"plugin/dockersync":  5,
	"plugin/metrics":     5,
	"plugin/page":        5,
	"plugin/remote":      5,
	"plugin/report":      5,
	"api/server":         4,
	"driver":             3,
	"ipam":               3,
	"overlay":            2,
	"cluster":            2,
	"names":              2,
	"capture":            2,
	"events":             2,
	"store":              1,
	"nsproc":             1,
	"internal":           0,
	"api":                0,
}

// standardOnly are those of the layers' folders whose non-test files import the standard library and nothing else.
var standardOnly = []string{"api"}

// libraries says in which folders alone the non-test files may import a library or a package of this module, with
// what is below it.
var libraries = map[string][]string{
	"github.com/vishvananda/netlink": {
		"driver", "overlay", "nsproc", "internal/nlevents", "internal/nstest", "integration",
	},
	"github.com/google/nftables":    {"driver/firewall"},
	"go.etcd.io/etcd":               {"cluster", "internal/etcdtest"},
	"github.com/getkin/kin-openapi": {}, // tests only
	"github.com/chromedp":           {"internal/browsertest"},
	"github.com/prometheus":         {"plugin/metrics"},
	// Docker's wire types end at the door; the benchmarks speak as Docker does.
	"github.com/docker/go-plugins-helpers": {"plugin/remote", "integration"},
	"github.com/vishvananda/netns":         {"nsproc", "internal/nstest"},
	module + "/internal/nstest":            {"internal/nstest"},
	module + "/internal/etcdtest":          {"internal/etcdtest"},
	module + "/internal/browsertest":       {"internal/browsertest"},
	module + "/plugin/remote/wiretest":     {"plugin/remote/wiretest"},
	module + "/internal/rules":             {"internal/rules"},
	module + "/integration":                {"integration"},
}

// enters names what puts a thread into another network namespace, by the package that it is of.
var enters = map[string][]string{
	"syscall":                      {"Unshare", "SYS_SETNS", "SYS_UNSHARE"},
	"golang.org/x/sys/unix":        {"Setns", "Unshare", "SYS_SETNS", "SYS_UNSHARE"},
	"github.com/vishvananda/netns": {"Set", "Setns", "New", "NewNamed"},
	"github.com/vishvananda/netlink": {
		"NewHandleAt", "NewHandleAtFrom", "LinkSubscribeAt", "AddrSubscribeAt", "RouteSubscribeAt", "NeighSubscribeAt",
		"SocketAt",
	},
	"github.com/vishvananda/netlink/nl": {"GetNetlinkSocketAt", "SubscribeAt", "GetSocketAt"},
	"github.com/google/nftables":        {"WithNetNSFd"},
}

// mayEnter are the folders whose files may use what enters names; so may every test.
var mayEnter = []string{"internal/nstest", "integration"}

// Check returns where the sources of a tree break the rules, in the order of their paths: "path:line: what is wrong".
func Check(tree fs.FS) ([]string, error) {
	var found []string
	documented := map[string]bool{} // by folder
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped(name):
			return fs.SkipDir
		case d.IsDir() || !slices.Contains(sources, path.Ext(name)):
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		found = append(found, checkText(name, string(src))...)
		if path.Ext(name) != ".go" {
			return nil
		}
		f, err := parse(name, src)
		if err != nil {
			return err
		}
		if !f.test {
			documented[f.folder] = documented[f.folder] || f.syntax.Doc != nil
		}
		found = append(found, f.check()...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check the rules: %w", err)
	}
	for folder, ok := range documented {
		if !ok {
			found = append(found, folder+": no package comment")
		}
	}
	slices.Sort(found)
	return found, nil
}

// skipped reports whether a folder holds no sources of the project.
func skipped(folder string) bool {
	built := folder == "bin" || folder == "build"
	return built || folder == "internal/rules/testdata" || folder != "." && strings.HasPrefix(path.Base(folder), ".")
}

// file is a parsed Go file.
type file struct {
	folder  string // that it is in, from the top of the tree
	test    bool
	fset    *token.FileSet
	syntax  *ast.File
	imports map[string]string // path by the name that the file uses
}

func parse(name string, src []byte) (file, error) {
	f := file{
		folder: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet(),
		imports: map[string]string{},
	}
	var err error
	f.syntax, err = parser.ParseFile(f.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	for _, spec := range f.syntax.Imports {
		imported := importPath(spec)
		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		f.imports[local] = imported
	}
	return f, nil
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value // not from the parser
	}
	return p
}

func (f file) check() []string {
	if f.test {
		return nil
	}
	var found []string
	complain := func(at token.Pos, format string, args ...any) {
		position := f.fset.Position(at)
		found = append(found, fmt.Sprintf("%s:%d: ", position.Filename, position.Line)+fmt.Sprintf(format, args...))
	}
	for _, spec := range f.syntax.Imports {
		imported := importPath(spec)
		if slices.Contains(standardOnly, layerFolder(f.folder)) && !standard(imported) {
			complain(spec.Pos(), "%s imports %s, want the standard library only", f.folder, imported)
			continue
		}
		for library, folders := range libraries {
			if below(imported, library) && !belowAny(f.folder, folders) {
				complain(spec.Pos(), "%s imports %s, which is for %s", f.folder, imported, strings.Join(folders, ", "))
			}
		}
		if to, ok := strings.CutPrefix(imported, module+"/"); ok && !f.mayImport(to) {
			complain(spec.Pos(), "%s imports %s, against the direction", f.folder, to)
		}
	}
	if belowAny(f.folder, mayEnter) {
		return found
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if what := f.forbidden(n); what != "" {
				complain(n.Pos(), "%s can enter another namespace, which only nsproc's entry does", what)
			}
		case *ast.KeyValueExpr: // in vishvananda's LinkSubscribeOptions{Namespace: ...}
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Namespace" {
				complain(n.Pos(), "%s can enter another namespace, which only nsproc's entry does", key.Name)
			}
		}
		return true
	})
	return found
}

// mayImport reports whether the file may import the package in folder to.
func (f file) mayImport(to string) bool {
	from, target := layerFolder(f.folder), layerFolder(to)
	return from != "" && target != "" && (from == target || layers[from] > layers[target])
}

// layerFolder returns the longest of the layers' folders that is folder or above it, empty if there is none.
func layerFolder(folder string) string {
	longest := ""
	for top := range layers {
		if below(folder, top) && len(top) > len(longest) {
			longest = top
		}
	}
	return longest
}

// standard reports whether an import path is of the standard library: its first element has no dot, which all modules
// that can be downloaded have there.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// forbidden is the name of what a selector stands for if it enters a namespace, otherwise empty.
func (f file) forbidden(s *ast.SelectorExpr) string {
	if s.Sel.Name == "Namespace" { // options.Namespace = ...
		return s.Sel.Name
	}
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	if slices.Contains(enters[f.imports[x.Name]], s.Sel.Name) {
		return x.Name + "." + s.Sel.Name
	}
	return ""
}

// below says whether the slash-separated path p is top or below it.
func below(p, top string) bool { return p == top || strings.HasPrefix(p, top+"/") }

func belowAny(p string, tops []string) bool {
	return slices.ContainsFunc(tops, func(top string) bool { return below(p, top) })
}
