// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestIsRoot: the user of a request is that of the process at the other end.
func TestIsRoot(t *testing.T) {
	if socket := os.Getenv("PEER_TEST_SOCKET"); socket != "" {
		t.Log(ask(t, socket))
		return
	}
	dir, err := os.MkdirTemp("", "peer") // for any user, other than t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o711, socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	server := &httptest.Server{Listener: Listen(l), Config: &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if IsRoot(r) {
				w.WriteHeader(http.StatusAccepted)
			}
		},
	)}}
	server.Start()
	defer server.Close()
	if got := ask(t, socket) == "202 Accepted"; got != (os.Getuid() == 0) {
		t.Errorf("root: %v, with the user %d", got, os.Getuid())
	}
	if os.Getuid() != 0 {
		return
	}
	self := filepath.Join(dir, "test")
	if b, err := os.ReadFile(os.Args[0]); err != nil || os.WriteFile(self, b, 0o755) != nil {
		t.Fatal("copy the test to where any user can execute it", err)
	}
	cmd := exec.Command(self, "-test.run=TestIsRoot", "-test.v")
	cmd.Dir, cmd.Env = "/", []string{"PEER_TEST_SOCKET=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "200 OK") {
		t.Errorf("another user: %v\n%s", err, out)
	}
}

// ask returns the status of an answer.
func ask(t *testing.T, socket string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	resp, err := client.Get("http://peer/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.Status
}

// TestOtherConnections: whoever comes over anything but a Unix socket is not root.
func TestOtherConnections(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if got := userOf(one); got != nobody {
		t.Errorf("user of a pipe: %v", got)
	}
	if IsRoot(httptest.NewRequest(http.MethodGet, "/", nil)) {
		t.Error("a request from an IP address is root's")
	}
}
