// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestUserOfEtcd: a host with a user of etcd starts while etcd is away, too, and is in the cluster when it is there. A
// wrong password is told.
func TestUserOfEtcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	setUser(t, etcd, "root", "secret")
	etcd.Kill(t, 0)
	login := func(password string) func(*Options) {
		return func(o *Options) { o.Username, o.Password = "root", password }
	}
	a := newHost(t, 1, etcd.URLs(), login("secret")).start()
	if _, err := a.Join(t.Context(), app()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("join without etcd: %v, want ErrUnreachable", err)
	}
	a.await("problem", func() bool { return a.Unreachable() != nil })
	etcd.RestartOnly(t, 0)
	a.await("presence", func() bool { return len(a.Hosts()) == 1 && a.Hosts()[0].Present })
	a.await("end of the problems", func() bool { return len(a.Problems()) == 0 })
	b := newHost(t, 2, etcd.URLs(), login("wrong")).start()
	b.await("problem", func() bool { return strings.Contains(strings.Join(b.Problems(), ""), "authentication failed") })
}

// setUser has etcd ask for a user, who may do everything.
func setUser(t *testing.T, etcd *etcdtest.Etcd, name, password string) {
	t.Helper()
	client := etcd.Client(t)
	_, errRole := client.RoleAdd(t.Context(), "root")
	_, errUser := client.UserAdd(t.Context(), name, password)
	_, errGrant := client.UserGrantRole(t.Context(), name, "root")
	_, errEnable := client.AuthEnable(t.Context())
	if err := errors.Join(errRole, errUser, errGrant, errEnable); err != nil {
		t.Fatal(err)
	}
}

// TestCallBeforeTheConnection: a call that comes as soon as weave has started waits for the connection.
func TestCallBeforeTheConnection(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	c, err := Open(t.Context(), newHost(t, 1, etcd.URLs(), nil).options)
	if err != nil {
		t.Fatal(err)
	}
	looked := make(chan error, 1)
	go func() {
		_, _, err := c.Lookup(t.Context(), "app")
		looked <- err
	}()
	if err := c.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-looked; err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
