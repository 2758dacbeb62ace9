// SPDX-License-Identifier: Apache-2.0

// Package etcdtest starts real etcd members, Debian's etcd-server, for tests. They listen on loopback addresses of
// whichever network namespace the test runs in.
package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// startTime bounds the start of a member; three of them on two busy cores have taken many seconds.
const startTime = 2 * time.Minute

// The ports that members listen on. They are below those that the kernel gives to connections by itself: one of these
// may be taken again before etcd listens there.
const firstPort, lastPort = 20000, 30000

// Etcd is a cluster of members that ends with the test.
type Etcd struct {
	members []*member
}

type member struct {
	name   string
	args   []string
	client string    // URL
	log    string    // path of its output
	cmd    *exec.Cmd // nil: it does not run
}

// Start starts a cluster of n members.
func Start(t testing.TB, n int) *Etcd {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("etcd is not installed (Debian's etcd-server)")
	}
	e := &Etcd{}
	var initial, peers []string
	for i := range n {
		peer := freeURL(t)
		peers = append(peers, peer)
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peer))
	}
	for i, peer := range peers {
		m := &member{name: fmt.Sprintf("m%d", i), client: freeURL(t)}
		dir := t.TempDir()
		m.log = filepath.Join(dir, "log")
		m.args = []string{
			"--name", m.name, "--data-dir", m.data(),
			"--listen-client-urls", m.client, "--advertise-client-urls", m.client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new",
			"--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap",
			"--unsafe-no-fsync",
		}
		e.members = append(e.members, m)
		m.start(t)
	}
	t.Cleanup(func() {
		for i := range e.members {
			e.Kill(t, i)
		}
	})
	e.await(t)
	return e
}

// freeURL returns a URL of a port of the loopback that nobody listens on.
func freeURL(t testing.TB) string {
	t.Helper()
	for {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		l, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return "http://" + address
	}
}

func (m *member) data() string { return filepath.Join(filepath.Dir(m.log), "data") }

func (m *member) start(t testing.TB) {
	t.Helper()
	output, err := os.Create(m.log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	m.cmd = exec.Command("etcd", m.args...)
	m.cmd.Stdout, m.cmd.Stderr = output, output
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// await waits until the cluster answers through each member that runs.
func (e *Etcd) await(t testing.TB) {
	t.Helper()
	for _, m := range e.members {
		if m.cmd == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), startTime)
		c := newClient(t, m.client)
		if _, err := c.Get(ctx, "any"); err != nil {
			output, _ := os.ReadFile(m.log) // what there is of it
			t.Errorf("etcd %s: %v\n%s", m.name, err, output)
		}
		closeClient(t, c)
		cancel()
	}
	if t.Failed() {
		t.FailNow()
	}
}

// URLs returns where the members serve clients.
func (e *Etcd) URLs() []string {
	var urls []string
	for _, m := range e.members {
		urls = append(urls, m.client)
	}
	return urls
}

// Client returns a client that is closed with the test.
func (e *Etcd) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	c := newClient(t, e.URLs()...)
	t.Cleanup(func() { closeClient(t, c) })
	return c
}

func closeClient(t testing.TB, c *clientv3.Client) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func newClient(t testing.TB, urls ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: urls, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Kill ends a member as a crash does. It may be gone already.
func (e *Etcd) Kill(t testing.TB, i int) {
	t.Helper()
	m := e.members[i]
	if m.cmd == nil {
		return
	}
	if err := m.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = m.cmd.Wait() // it says that the process was killed
	m.cmd = nil
}

// Restart starts a member that was killed, with its data, and waits until it serves.
func (e *Etcd) Restart(t testing.TB, i int) {
	t.Helper()
	e.members[i].start(t)
	e.await(t)
}

// Pause stops a member without ending it, as a machine does that hangs, until the function that it returns is called.
func (e *Etcd) Pause(t testing.TB, i int) (goOn func()) {
	t.Helper()
	p := e.members[i].cmd.Process
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// The signal is sent, but the last of its threads may go on for a moment.
	if err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatalf("wait until etcd has stopped: %v", err)
	}
	return func() {
		if err := p.Signal(syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}
}

// RestartOnly is Restart without waiting, for members that serve nobody without a user.
func (e *Etcd) RestartOnly(t testing.TB, i int) {
	t.Helper()
	e.members[i].start(t)
}

// Wipe removes the data of a member that was killed.
func (e *Etcd) Wipe(t testing.TB, i int) {
	t.Helper()
	if err := os.RemoveAll(e.members[i].data()); err != nil {
		t.Fatal(err)
	}
}

// Backup copies the data of a member that was killed; the function that it returns puts them back.
func (e *Etcd) Backup(t testing.TB, i int) (restore func()) {
	t.Helper()
	data, saved := e.members[i].data(), filepath.Join(t.TempDir(), "saved")
	if err := os.CopyFS(saved, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		e.Wipe(t, i)
		if err := os.CopyFS(data, os.DirFS(saved)); err != nil {
			t.Fatal(err)
		}
	}
}
