// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
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
	got, err = parseConfig(t, []string{"--managed", "--sandbox-root=/other"}, nil)
	if err != nil || got.SandboxRoot != "/other" {
		t.Errorf("a flag beside --managed: %q, %v", got.SandboxRoot, err)
	}
}

func TestBadSettingsLeaveDefaults(t *testing.T) {
	want, err := parseConfig(t, []string{"--managed"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseConfig(t, []string{"--managed"}, map[string]string{
		"WEAVE_MTU": "big", "WEAVE_RANGE6": "fd00::1/64", "WEAVE_LOG_LEVEL": "loud", "WEAVE_PLUGIN_SOCKET": "/a,b",
		"WEAVE_API_GROUP": "nobody-here",
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
		{
			"run is a tmpfs", "298 277 0:152 / /host/run rw,relatime master:43 - tmpfs tmpfs rw\n" +
				"299 277 0:152 /docker/plugins/" + id + " /run/docker/plugins rw,relatime shared:44 - tmpfs tmpfs rw\n",
			id,
		},
		{
			"run is on the root's disk",
			"299 277 8:1 /run/docker/plugins/" + id + " /run/docker/plugins rw - ext4 /dev/sda1 rw\n", id,
		},
		{
			"of the host only",
			"299 277 0:152 /docker/plugins/" + id + " /host/run/docker/plugins rw - tmpfs tmpfs rw\n", "",
		},
		{"garbage", "299 277\n\n", ""},
	} {
		if got := pluginID(c.mountinfo); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestManagedPluginAnswersWhatIsWrong: `docker plugin enable` can't say it, so the answers to calls do.
func TestManagedPluginAnswersWhatIsWrong(t *testing.T) {
	cfg := newDaemonConfig(t)
	cfg.Managed = true
	d := startDaemon(t, cfg, testProgram(openFails(os.ErrPermission)))
	answersWith(t, d, os.ErrPermission.Error())
	d.stop()
	if err := d.ended(t); err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestManagedPluginWhoseSocketIsServed(t *testing.T) {
	cfg := newDaemonConfig(t)
	cfg.Managed = true
	served := filepath.Join(t.TempDir(), "served.sock")
	other, err := net.Listen("unix", served)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	cfg.PluginSockets = append(cfg.PluginSockets, served)
	ctx, stop := context.WithCancel(t.Context())
	d := &running{cfg: cfg, stop: stop, done: make(chan error, 1)}
	go func() {
		d.done <- Serve(ctx, cfg, testProgram(func(context.Context, Sockets) (*Core, error) {
			t.Error("the state was opened")
			return nil, os.ErrInvalid
		}), quiet())
	}()
	eventually(t, "serve listens", func() bool { return answers(cfg.PluginSockets[0]) })
	answersWith(t, d, served+": another process serves it")
	_, err = api.NewClient(cfg.APISocket).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("the API answers with %v, want the same reason", err)
	}
	stop()
	if err := d.ended(t); err != nil {
		t.Errorf("serve: %v", err)
	}
}

// answersWith fails t unless Docker can load the plugin, and the answers to its calls say the reason.
func answersWith(t *testing.T, d *running, reason string) {
	t.Helper()
	path := d.cfg.PluginSockets[0]
	if status, body, err := call(path, "NetworkDriver.GetCapabilities", ""); err != nil || status != http.StatusOK {
		t.Errorf("GetCapabilities: %d %s, %v", status, body, err)
	}
	for name, body := range map[string]string{"NetworkDriver.DeleteNetwork": "{}", "IpamDriver.RequestPool": "{}"} {
		status, body, err := call(path, name, body)
		if err != nil || status != http.StatusInternalServerError || !strings.Contains(body, reason) {
			t.Errorf("%s: %d %s, %v; want %q", name, status, body, err, reason)
		}
	}
}
