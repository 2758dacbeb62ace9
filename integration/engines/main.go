// SPDX-License-Identifier: Apache-2.0

// Command engines writes the table of tested Docker versions from the output of the integration tests, which ran with
// -json on each version:
//
//	engines docs/docker-versions.md bookworm.json trixie.json forky.json
//
// The names of the files are those of the suites (integration/lab).
//
// If a test has failed, it writes nothing, prints the tests that failed, and exits with status 1.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The table is between these lines of the document.
const (
	begin = "<!-- engines: written by make test-engines -->"
	end   = "<!-- /engines -->"
)

// versionLine is the start of the line with which the tests report the version of Docker.
const versionLine = "engine: "

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: engines DOCUMENT RESULTS [RESULTS ...]")
	}
	var results []result
	for _, path := range args[1:] {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		r, err := read(bufio.NewReader(f))
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		r.suite = strings.TrimSuffix(filepath.Base(path), ".json")
		results = append(results, r)
	}
	var failed []error
	for _, r := range results {
		for _, name := range r.failed {
			failed = append(failed, fmt.Errorf("%s on %s failed", name, r.version))
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	readme, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	if readme, err = replace(readme, table(results)); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[0], readme, 0o644)
}

// result is the outcome of the tests on one version of Docker. Subtests are not counted.
type result struct {
	suite, version  string
	passed          int
	skipped, failed []string
}

// event is a line of `go test -json` (see `go doc test2json`).
type event struct{ Action, Package, Test, Output string }

func read(r *bufio.Reader) (result, error) {
	var out result
	running := map[string]bool{} // tests and packages that have not ended yet
	for d := json.NewDecoder(r); d.More(); {
		var e event
		if err := d.Decode(&e); err != nil {
			return out, err
		}
		if version, ok := strings.CutPrefix(e.Output, versionLine); ok {
			out.version = strings.TrimSpace(version)
		}
		name := cmp.Or(e.Test, e.Package) // a package fails without a test if it does not build or is killed
		switch e.Action {
		case "start", "run":
			running[e.Package+" "+e.Test] = true
		case "pass", "fail", "skip":
			delete(running, e.Package+" "+e.Test)
		}
		switch {
		case strings.Contains(e.Test, "/"):
		case e.Action == "fail":
			out.failed = append(out.failed, name)
		case e.Action == "pass" && e.Test != "":
			out.passed++
		case e.Action == "skip" && e.Test != "":
			out.skipped = append(out.skipped, name)
		}
	}
	if len(running) > 0 {
		return out, fmt.Errorf("cut off: no end of %s", slices.Sorted(maps.Keys(running)))
	}
	if out.version == "" || out.passed == 0 {
		return out, errors.New("no test passed, or none reported the version of Docker")
	}
	return out, nil
}

func table(results []result) string {
	var b strings.Builder
	b.WriteString("| Docker Engine | suite | tests passed | not for this engine |\n|---|---|---|---|\n")
	for _, r := range results {
		slices.Sort(r.skipped)
		skipped := cmp.Or(strings.Join(r.skipped, ", "), "-")
		fmt.Fprintf(&b, "| %s | %s | %d | %s |\n", r.version, r.suite, r.passed, skipped)
	}
	return b.String()
}

// replace puts text between the lines begin and end.
func replace(readme []byte, text string) ([]byte, error) {
	before, rest, ok := bytes.Cut(readme, []byte(begin+"\n"))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return nil, fmt.Errorf("want the lines %s and %s", begin, end)
	}
	return slices.Concat(before, []byte(begin+"\n"+text+end), after), nil
}
