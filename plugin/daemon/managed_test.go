package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

func TestManagedDefaults(t *testing.T) {
	got, err := parseConfig(t, []string{"--managed"}, map[string]string{"WEAVE_MTU": "1400"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := parseConfig(t, []string{"--mtu=1400"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want.Managed = true
	want.PluginSockets = []string{"/run/docker/plugins/weave.sock", "/host/run/docker/plugins/weave.sock"}
	want.APISocket = "/host/run/weave/weave.sock"
	want.RuntimeDir = "/host/run/weave"
	want.DockerSocket = "/host/run/docker.sock"
	want.SandboxRoot = "/host"
	want.Nsproc = got.Nsproc
	if diff := cmp.Diff(want, got, comparePrefix); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err = parseConfig(t, []string{"--managed", "--sandbox-root=/other"}, nil); err != nil || got.SandboxRoot != "/other" {
		t.Errorf("a flag beside --managed: %q, %v", got.SandboxRoot, err)
	}
}

func TestBadSettingsLeaveDefaults(t *testing.T) {
	want, err := parseConfig(t, []string{"--managed"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseConfig(t, []string{"--managed"}, map[string]string{
		"WEAVE_MTU": "big", "WEAVE_RANGE6": "fd00::1/64", "WEAVE_LOG_LEVEL": "loud", "WEAVE_PLUGIN_SOCKET": "/a,b", "WEAVE_API_GROUP": "nobody-here",
	})
	if err == nil {
		t.Fatal("no error")
	}
	got.Nsproc = want.Nsproc
	if diff := cmp.Diff(want, got, comparePrefix); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPluginID(t *testing.T) {
	const id = "18676e05d40d98c16bc764ad16bb0661ea99eac5814815aa0ee32cebb67f03c9"
	for _, c := range []struct{ name, mountinfo, want string }{
		{"run is a tmpfs", "298 277 0:152 / /host/run rw,relatime master:43 - tmpfs tmpfs rw\n" +
			"299 277 0:152 /docker/plugins/" + id + " /run/docker/plugins rw,relatime shared:44 - tmpfs tmpfs rw\n", id},
		{"run is on the root's disk", "299 277 8:1 /run/docker/plugins/" + id + " /run/docker/plugins rw - ext4 /dev/sda1 rw\n", id},
		{"of the host only", "299 277 0:152 /docker/plugins/" + id + " /host/run/docker/plugins rw - tmpfs tmpfs rw\n", ""},
		{"garbage", "299 277\n\n", ""},
	} {
		if got := pluginID(c.mountinfo); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTellDrivers(t *testing.T) {
	for _, c := range []struct {
		name    string
		plugin  string
		other   string
		drivers []string
		warning string
	}{
		{"not managed, or not known yet", "", "", []string{"weave"}, ""},
		{"full name", "registry.example/weave:latest", "", []string{"weave", "registry.example/weave:latest"}, ""},
		{"alias", "weave:latest", "", []string{"weave:latest"}, "type -d weave:latest and --ipam-driver weave:latest"},
		{"alias with a tag that hides nothing", "weave:1.0", "", []string{"weave", "weave:1.0"}, ""},
		{"another alias", "net:latest", "", []string{"weave", "net:latest"}, ""},
		{"hidden by another plugin", "registry.example/weave:latest", "weave:latest", []string{"registry.example/weave:latest"}, "docker plugin rm weave:latest"},
		{"not managed, hidden", "", "weave:latest", []string{}, "docker plugin rm weave:latest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			names, s := []string{"weave"}, api.Status{Warnings: []string{"an earlier one"}}
			tellDrivers(&s, names, c.plugin, []string{c.plugin, c.other})
			if diff := cmp.Diff(c.drivers, s.Docker.Drivers); diff != "" {
				t.Errorf("drivers (-want +got):\n%s", diff)
			}
			if got := strings.Join(s.Warnings[1:], ""); c.warning == "" && got != "" || !strings.Contains(got, c.warning) {
				t.Errorf("warning %q, want %q", got, c.warning)
			}
			if names[0] != "weave" {
				t.Error("the configured names were changed")
			}
		})
	}
}

// TestTellUnseen: a sandbox that is no mount of a namespace warns, unless a later one is seen or it is gone.
func TestTellUnseen(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const visible = "/proc/self/ns/net"
	for _, c := range []struct {
		name      string
		root      sandbox.Root
		sandboxes []string
		warned    bool
	}{
		{"none", "", []string{""}, false},
		{"visible", "", []string{visible}, false},
		{"plain file", sandbox.Root(root), []string{"/plain"}, true},
		{"plain file after one that is gone", sandbox.Root(root), []string{"/gone", "/plain"}, true},
		{"plain file, then a visible one", "", []string{filepath.Join(root, "plain"), visible}, false},
		{"a visible one, then a plain file", "", []string{visible, filepath.Join(root, "plain")}, true},
		{"gone", sandbox.Root(root), []string{"/gone"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var endpoints []driver.Endpoint
			for i, path := range c.sandboxes {
				endpoints = append(endpoints, driver.Endpoint{Sandbox: path, State: driver.Up, Created: time.Unix(int64(i), 0)})
			}
			slices.Reverse(endpoints)
			var s api.Status
			endpoints = append(endpoints, driver.Endpoint{Sandbox: "/plain", State: driver.Joined}) // of a container that has ended
			tellUnseen(&s, endpoints, c.root)
			if got := len(s.Warnings) > 0; got != c.warned {
				t.Errorf("warnings %q, want one: %v", s.Warnings, c.warned)
			}
		})
	}
}

// TestManagedPluginAnswersWhatIsWrong: `docker plugin enable` can't tell it, so the calls that follow do.
func TestManagedPluginAnswersWhatIsWrong(t *testing.T) {
	cfg := newDaemonConfig(t)
	cfg.Managed = true
	d := startDaemon(t, cfg, refusing(os.ErrPermission))
	answersWith(t, d, os.ErrPermission.Error())
	d.stop()
	if err := d.ended(t); err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestManagedPluginWhoseSocketIsTaken(t *testing.T) {
	cfg := newDaemonConfig(t)
	cfg.Managed = true
	taken := filepath.Join(t.TempDir(), "taken.sock")
	other, err := net.Listen("unix", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	cfg.PluginSockets = append(cfg.PluginSockets, taken)
	ctx, stop := context.WithCancel(t.Context())
	d := &daemon{cfg: cfg, stop: stop, done: make(chan error, 1)}
	go func() {
		d.done <- serve(ctx, cfg, quiet(), func(context.Context, config, *logrus.Entry) (*core, error) {
			t.Error("the state was opened")
			return nil, os.ErrInvalid
		})
	}()
	eventually(t, "serve listens", func() bool { return answers(cfg.PluginSockets[0]) })
	answersWith(t, d, taken+": another process serves it")
	if _, err := api.NewClient(cfg.APISocket).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("the API answers with %v, want the same reason", err)
	}
	stop()
	if err := d.ended(t); err != nil {
		t.Errorf("serve: %v", err)
	}
}

// answersWith fails t unless the Engine can load the plugin, and its calls are answered with a reason.
func answersWith(t *testing.T, d *daemon, reason string) {
	t.Helper()
	path := d.cfg.PluginSockets[0]
	if status, body, err := call(path, "NetworkDriver.GetCapabilities", ""); err != nil || status != http.StatusOK {
		t.Errorf("GetCapabilities: %d %s, %v", status, body, err)
	}
	for name, body := range map[string]string{"NetworkDriver.DeleteNetwork": deleteNetwork, "IpamDriver.RequestPool": "{}"} {
		status, body, err := call(path, name, body)
		if err != nil || status != http.StatusInternalServerError || !strings.Contains(body, reason) {
			t.Errorf("%s: %d %s, %v; want %q", name, status, body, err, reason)
		}
	}
}
