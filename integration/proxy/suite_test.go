// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/xml"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/integration/lab"
)

// The part of docker-compose's tests that is about networks, and the images that they use, which are all the lab's
// here.
const suiteFilter = "network or net_ or links or alias or port or scale or external"

var (
	suiteFiles = []string{
		"tests/acceptance/cli_test.py", "tests/integration/network_test.py", "tests/integration/project_test.py",
		"tests/integration/service_test.py",
	}
	suiteImages = []string{"busybox:latest", "busybox:1.31.0-uclibc", "busybox:1.27.2", "alpine:3.10.1"}
)

//go:embed testdata/differences.txt
var differencesList string

// docker-compose's own tests have the same results on weave's networks as on Docker's bridge networks, except for a
// list of expected differences.
func TestComposeSuite(t *testing.T) {
	if os.Getenv("WEAVE_TEST_SUITES") != "1" {
		t.Skip("takes minutes: runs with WEAVE_TEST_SUITES=1, in make test-engines")
	}
	version, err := exec.Command("docker-compose", "version", "--short").Output()
	if err != nil || !bytes.HasPrefix(version, []byte("1.29.")) {
		t.Skipf("the tests are those of docker-compose 1.29, and here is %q (%v)", version, err)
	}
	dir := composeTests(t)
	var bridge, weave map[string]string
	t.Run("drivers", func(t *testing.T) {
		t.Run("bridge", func(t *testing.T) {
			t.Parallel()
			h := suiteHost(t, "bridge")
			bridge = runSuite(t, dir, h.Path(lab.DockerSocket))
		})
		t.Run("weave", func(t *testing.T) {
			t.Parallel()
			h := suiteHost(t, "weave")
			h.StartPlugin(t)
			weave = runSuite(t, dir, startProxy(t, h))
		})
	})

	passed, differ := 0, []string{}
	for _, test := range slices.Sorted(maps.Keys(bridge)) {
		switch {
		case bridge[test] == "passed" && weave[test] == "passed":
			passed++
		case bridge[test] != weave[test]:
			differ = append(differ, test)
			t.Logf("%s: %s on bridge, %s on weave", test, bridge[test], weave[test])
		default:
			t.Logf("%s: %s on both", test, bridge[test])
		}
	}
	t.Logf("%d tests: %d pass on both, %d differ", len(bridge), passed, len(differ))
	if passed == 0 {
		t.Error("no test passes: the suite does not run here")
	}
	if diff := cmp.Diff(expectedDifferences(t), differ); diff != "" {
		t.Errorf("differences (-expected +found):\n%s", diff)
	}
}

// expectedDifferences returns the tests in the list of differences, in order.
func expectedDifferences(t *testing.T) []string {
	t.Helper()
	var tests []string
	for line := range strings.Lines(differencesList) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		test, reason, _ := strings.Cut(line, ": ")
		if strings.TrimSpace(reason) == "" {
			t.Errorf("difference %q has no reason", line)
		}
		tests = append(tests, test)
	}
	slices.Sort(tests)
	return tests
}

// composeTests returns the directory, in the lab's cache, with docker-compose's tests. The first call downloads them.
func composeTests(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(lab.Cache(), "compose-tests")
	if out, err := exec.CommandContext(t.Context(), "./compose-tests.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("get docker-compose's tests: %v\n%s", err, out)
	}
	return dir
}

func suiteHost(t *testing.T, name string) *lab.Host {
	t.Helper()
	h := lab.Start(t, lab.Options{Name: name})
	for _, image := range suiteImages {
		h.Docker(t, "tag", lab.Image, image)
	}
	return h
}

// startProxy runs the proxy for a host's Docker until the end of t, and returns the path of its socket.
func startProxy(t *testing.T, h *lab.Host) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	log := logrus.New()
	log.SetOutput(t.Output())
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, socket, newProxy(h.Path(lab.DockerSocket), "weave", logrus.NewEntry(log)))
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("proxy: %v", err)
		}
	})
	return socket
}

// runSuite runs the suite with the Docker on a socket and returns the result of each test.
func runSuite(t *testing.T, dir, socket string) map[string]string {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report.xml")
	args := []string{"-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-W", "ignore"}
	args = append(args, "--junitxml", report, "-k", suiteFilter)
	args = append(args, suiteFiles...)
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", args...) // the one that Debian has the modules for
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput() // fails if a test fails
	b, readErr := os.ReadFile(report)
	if readErr != nil {
		t.Fatalf("pytest: %v\n%s", err, out)
	}
	results, err := parseReport(b)
	if err != nil {
		t.Fatalf("pytest's report: %v\n%s", err, out)
	}
	return results
}

// parseReport returns the results in pytest's report by test: passed, failed or skipped.
func parseReport(report []byte) (map[string]string, error) {
	var suites struct {
		Cases []struct {
			Class   string     `xml:"classname,attr"`
			Name    string     `xml:"name,attr"`
			Failure []struct{} `xml:"failure"`
			Error   []struct{} `xml:"error"`
			Skipped []struct{} `xml:"skipped"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(report, &suites); err != nil {
		return nil, err
	}
	results := map[string]string{}
	for _, c := range suites.Cases {
		result := "passed"
		switch {
		case len(c.Failure)+len(c.Error) > 0:
			result = "failed"
		case len(c.Skipped) > 0:
			result = "skipped"
		}
		name := c.Class[strings.LastIndex(c.Class, ".")+1:] + "." + c.Name
		if results[name] != "failed" { // pytest lists a test twice if its teardown fails, too
			results[name] = result
		}
	}
	return results, nil
}

func TestReportOfPytest(t *testing.T) {
	got, err := parseReport([]byte(`<testsuites><testsuite>
		<testcase classname="tests.a.A" name="good"/>
		<testcase classname="tests.a.A" name="bad"><failure message="m">text</failure></testcase>
		<testcase classname="tests.a.A" name="bad"><error/></testcase>
		<testcase classname="tests.a.A" name="bad"/>
		<testcase classname="B" name="out"><skipped/></testcase></testsuite></testsuites>`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"A.good": "passed", "A.bad": "failed", "B.out": "skipped"}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}
