package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/integration/lab"
)

// images are the names of images that the suite asks for; here all of them are the lab's.
var images = []string{"busybox:latest", "busybox:1.31.0-uclibc", "busybox:1.27.2", "alpine:3.10.1"}

func TestTry(t *testing.T) {
	t.Run("b", func(t *testing.T) { t.Parallel(); runSuite(t, "bridge", false) })
	t.Run("w", func(t *testing.T) { t.Parallel(); runSuite(t, "weave", true) })
}

func runSuite(t *testing.T, name string, proxied bool) map[string]string {
	h := lab.Start(t, lab.Options{Name: name})
	for _, image := range images {
		h.Docker(t, "tag", lab.Image, image)
	}
	socket := h.Path("/run/docker.sock")
	if proxied {
		h.StartPlugin(t)
		log := logrus.New()
		log.SetOutput(t.Output())
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error)
		socket = filepath.Join(t.TempDir(), "docker.sock")
		go func() {
			served <- serve(ctx, socket, newProxy(h.Path("/run/docker.sock"), "weave", logrus.NewEntry(log)))
		}()
		defer func() { stop(); <-served }()
	}
	report := filepath.Join("/tmp/h8", name+".xml")
	cmd := exec.Command("/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--junitxml", report,
		"-k", os.Getenv("K"), "tests/acceptance/cli_test.py", "tests/integration/network_test.py", "tests/integration/project_test.py", "tests/integration/service_test.py")
	cmd.Dir = "/var/cache/weave-lab/compose-tests"
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	os.WriteFile("/tmp/h8/"+name+".out", out, 0o644)
	t.Logf("%v", err)
	_ = xml.Name{}
	fmt.Println()
	return nil
}
