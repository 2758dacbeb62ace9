// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// The lab is tested with Docker's own bridge driver, without weave.
func TestHost(t *testing.T) {
	u := lab.NewUnderlay(t, netip.MustParsePrefix("192.0.2.1/24"))
	h := lab.Start(t, lab.Options{Name: "one", Underlay: u, Address: netip.MustParsePrefix("192.0.2.10/24")})
	h.CreateNetwork(t, "net")
	h.RunCommand(t, []string{"--network", "net", "--name", "web", "-p", "8080:80"}, "httpd", "-f", "-h", "/www")
	h.Run(t, "--network", "net", "--name", "client")

	h.Docker(t, "exec", "client", "ping", "-c1", "-w5", "web")
	if got := h.Docker(t, "exec", "client", "wget", "-qO-", "http://web/"); got+"\n" != lab.Page {
		t.Errorf("the page over the network is %q", got)
	}
	lab.Eventually(t, 5*time.Second, "page over the published port, from outside", func() error {
		_, err := u.Command(context.Background(), "curl", "-sf", "--max-time", "2", "http://192.0.2.10:8080/").Output()
		return err
	})
	h.Docker(t, "exec", "client", "ping", "-c1", "-w5", u.Address().String())
}

func TestRebootKeepsTheDisk(t *testing.T) {
	h := lab.Start(t, lab.Options{Name: "reboot"})
	h.CreateNetwork(t, "net")
	h.Run(t, "--network", "net", "--name", "back", "--restart", "always")
	h.Exec(t, "sh", "-c", "echo kept > /var/lib/weave/file; touch /run/lost /lost")

	h.PowerOff(t)
	h.PowerOn(t)
	h.StartDocker(t)

	if got := h.Exec(t, "cat", "/var/lib/weave/file"); got != "kept" {
		t.Errorf("after the reboot the file on the disk reads %q", got)
	}
	for _, name := range []string{"/run/lost", "/lost"} {
		if _, err := os.Stat(h.Path(name)); err == nil {
			t.Errorf("%s survived the reboot", name)
		}
	}
	lab.Eventually(t, 10*time.Second, "container with restart=always", func() error {
		_, err := h.DockerErr("exec", "back", "true")
		return err
	})
}

func TestDockerIsStoppedAndKilled(t *testing.T) {
	h := lab.Start(t, lab.Options{Name: "docker"})
	h.StopDocker(t)
	if out, err := h.DockerErr("version"); err == nil {
		t.Errorf("Docker answers after it was stopped: %s", out)
	}
	h.StartDocker(t)
	h.Docker(t, "version")
	h.KillDocker(t)
	h.StartDocker(t)
	h.Docker(t, "version")
}

func TestCloseLeavesNothing(t *testing.T) {
	h := lab.Boot(t, lab.Options{Name: "trace"})
	h.Docker(t, "run", "-d", lab.Image)
	root := h.Path("/")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(root); err == nil {
		t.Errorf("the host's init still runs")
	}
	for _, dir := range []string{"/var/tmp/", "/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		pattern := fmt.Sprintf("%sweave-lab-%d-trace-*", dir, os.Getpid())
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), fmt.Sprintf("weave-lab-%d-trace", os.Getpid())) {
		t.Errorf("mounts that are left:\n%s", mounts)
	}
}

// The next test process removes what a killed one has left.
func TestLeftoversAreSwept(t *testing.T) {
	if os.Getenv("WEAVE_LAB_VICTIM") != "" {
		lab.Boot(t, lab.Options{Name: "victim"})
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	victim := exec.Command(os.Args[0], "-test.run", "^TestLeftoversAreSwept$")
	victim.Env = append(os.Environ(), "WEAVE_LAB_VICTIM=1")
	out, _ := victim.CombinedOutput() // it kills itself
	left := fmt.Sprintf("/var/tmp/weave-lab-%d-victim-*", victim.Process.Pid)
	if found, _ := filepath.Glob(left); len(found) != 1 {
		t.Fatalf("the killed test left %v:\n%s", found, out)
	}
	next := exec.Command(os.Args[0], "-test.run", "^TestCloseLeavesNothing$") // the first host of a process sweeps
	if out, err := next.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if found, _ := filepath.Glob(left); len(found) != 0 {
		t.Errorf("still there: %v", found)
	}
}
