// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Etcd is a cluster of one etcd member, Debian's etcd-server, on an underlay.
type Etcd struct {
	underlay *Underlay
	args     []string
	url      string
	process  *process // nil: it does not run
}

// StartEtcd starts an etcd at the underlay's own address, and ends it with t.
func (u *Underlay) StartEtcd(t testing.TB) *Etcd {
	t.Helper()
	at := func(port string) string { return "http://" + net.JoinHostPort(u.Address().String(), port) }
	e := &Etcd{underlay: u, url: at("2379"), args: []string{
		"--data-dir", t.TempDir(), "--listen-client-urls", at("2379"), "--advertise-client-urls", at("2379"),
		"--listen-peer-urls", at("2380"), "--initial-advertise-peer-urls", at("2380"),
		"--initial-cluster", "default=" + at("2380"), "--logger", "zap", "--unsafe-no-fsync",
	}}
	e.Start(t)
	t.Cleanup(e.Kill)
	return e
}

// Address returns what `weave serve --cluster` takes.
func (e *Etcd) Address() string { return "etcd://" + e.underlay.Address().String() }

// URL returns where etcd serves clients, on the underlay.
func (e *Etcd) URL() string { return e.url }

// PID returns the process id, on this machine, of etcd while it runs.
func (e *Etcd) PID() int { return e.process.pid }

// Start starts etcd again after Kill, with its data, and waits until it serves.
func (e *Etcd) Start(t testing.TB) {
	t.Helper()
	cmd := exec.Command("nsenter", e.underlay.enter(append([]string{"etcd"}, e.args...)...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p, err := startProcess(cmd)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	e.process = p
	Eventually(t, 30*time.Second, "etcd", func() error {
		_, err := e.Get("weave/")
		return err
	})
}

// Kill ends etcd as a crash does. It may be gone already.
func (e *Etcd) Kill() {
	if e.process != nil {
		e.process.kill()
		e.process = nil
	}
}

// Get returns the keys below a prefix, one in a line.
func (e *Etcd) Get(prefix string) (string, error) {
	return e.control("get", "--prefix", "--keys-only", prefix)
}

// All returns the values of the keys below a prefix.
func (e *Etcd) All(prefix string) (map[string]string, error) {
	out, err := e.control("get", "--prefix", "--write-out", "json", prefix)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Kvs []struct{ Key, Value []byte } // in base64
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("etcdctl get %s: %w", prefix, err)
	}
	found := map[string]string{}
	for _, kv := range answer.Kvs {
		found[string(kv.Key)] = string(kv.Value)
	}
	return found, nil
}

// Put sets a key.
func (e *Etcd) Put(key, value string) error {
	_, err := e.control("put", key, value)
	return err
}

// Delete removes what is below a prefix.
func (e *Etcd) Delete(prefix string) error {
	_, err := e.control("del", "--prefix", prefix)
	return err
}

// control runs etcdctl and returns its output.
func (e *Etcd) control(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := e.underlay.Command(ctx, "etcdctl", append([]string{"--endpoints", e.url}, args...)...)
	cmd.Env = append(cmd.Environ(), "ETCDCTL_API=3")
	out, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("etcdctl %s: %w", args[0], err)
	}
	return out, nil
}
