// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// injected makes the n-th step of a request fail: a write, because the request's context ends, and a change of the
// kernel, because the thread has lost CAP_NET_ADMIN until the next step.
type injected struct {
	t       *testing.T
	n       int // counts down to 0
	cancel  context.CancelFunc
	name    string // of the step that failed; empty: the request has fewer steps
	restore func()
}

// failAt returns a context for one request on the rig, whose n-th step will fail, and what makes it fail.
func (r *rig) failAt(n int) (context.Context, *injected) {
	ctx, cancel := context.WithCancel(r.t.Context())
	f := &injected{t: r.t, n: n, cancel: cancel, restore: func() {}}
	r.pause() // what runs in the background takes steps, too
	r.step, r.links.step = f.step, f.step
	return ctx, f
}

func (f *injected) step(name string) {
	f.restore()
	f.n--
	if f.n != 0 {
		return
	}
	f.name = name
	if strings.HasPrefix(name, "write ") || name == "erase record" || name == "set firewall rules" {
		f.cancel()
		return
	}
	f.restore = dropNetAdmin(f.t)
}

// end must be called after the request. It reports whether a step has failed.
func (f *injected) end() bool {
	f.restore()
	f.cancel()
	return f.name != ""
}

// dropNetAdmin takes CAP_NET_ADMIN from the calling goroutine until restore is called.
func dropNetAdmin(t *testing.T) (restore func()) {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		t.Error(err)
	}
	set := func(data [2]unix.CapUserData) {
		if err := unix.Capset(&header, &data[0]); err != nil {
			t.Error(err)
		}
	}
	without := before
	without[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	set(without)
	done := false
	return func() {
		if !done {
			done = true
			set(before)
			runtime.UnlockOSThread()
		}
	}
}

// TestEveryStepFails makes each step of each request fail in turn. A request that fails leaves only what was there
// before it, and succeeds when it is repeated.
func TestEveryStepFails(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	named := onBridge(networkID(1), "br-app")
	named.Firewall = FirewallHost
	for _, tt := range []struct {
		name    string
		request func(context.Context) error
		after   func() error
	}{
		{
			name:    "create network",
			request: func(ctx context.Context) error { return r.CreateNetwork(ctx, underHostRules(netID)) },
			after:   func() error { return r.DeleteNetwork(t.Context(), netID) },
		},
		{
			name:    "create network on a named bridge",
			request: func(ctx context.Context) error { return r.CreateNetwork(ctx, named) },
		},
		{
			name: "create endpoint",
			request: func(ctx context.Context) error {
				_, err := r.CreateEndpoint(ctx, newEndpoint(named.ID, 1))
				return err
			},
		},
		{
			name: "join",
			request: func(ctx context.Context) error {
				_, err := r.Join(ctx, named.ID, endpointID(1), "/run/docker/netns/x", NoPorts)
				return err
			},
		},
		{
			name:    "leave",
			request: func(ctx context.Context) error { return r.Leave(ctx, named.ID, endpointID(1)) },
			after: func() error {
				r.delete(endpointID(1))
				return r.removals.wait(t.Context(), named.ID)
			},
		},
		{
			name:    "delete network",
			request: func(ctx context.Context) error { return r.DeleteNetwork(ctx, named.ID) },
		},
	} {
		for n := 1; ; n++ {
			ctx, f := r.failAt(n)
			err := tt.request(ctx)
			if !f.end() {
				if err != nil {
					t.Fatalf("%s: %v though no step fails", tt.name, err)
				}
				break
			}
			r.step, r.links.step = func(string) {}, func(string) {}
			if err == nil {
				t.Error("no error")
			}
			if !strings.HasPrefix(tt.name, "delete") { // that one goes on where it failed
				checkConsistent(t, r.Driver)
				checkProblems(t, r)
			}
			if t.Failed() {
				t.Fatalf("%s, when step %d has failed: %s: %v", tt.name, n, f.name, err)
			}
		}
		checkProblems(t, r)
		if tt.after != nil {
			if err := tt.after(); err != nil {
				t.Fatal(err)
			}
		}
	}
	checkConsistent(t, r.Driver)
	if left := ownLinks(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRecordStaysIfUndoFails: what a failed request could not remove again is still named by its record, so the next
// start removes it.
func TestRecordStaysIfUndoFails(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(underHostRules(networkID(1)))
	for last, request := range map[string]func(context.Context) error{
		"write network made": func(ctx context.Context) error { return r.CreateNetwork(ctx, underHostRules(netID)) },
		"set alias": func(ctx context.Context) error {
			_, err := r.CreateEndpoint(ctx, newEndpoint(networkID(1), 1))
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		restore := func() {}
		step := func(name string) {
			restore()
			switch name {
			case last:
				cancel()
				if name == "set alias" {
					restore = dropNetAdmin(t)
				}
			case "delete link":
				restore = dropNetAdmin(t)
			case "erase record":
				t.Errorf("%s fails: the record is erased though the link is there", last)
			}
		}
		r.pause()
		if err := r.setForwarding(t.Context()); err != nil { // the pause may have broken off a look at the firewall
			t.Fatal(err)
		}
		r.step, r.links.step = step, step
		err := request(ctx)
		restore()
		cancel()
		if err == nil || !strings.Contains(err.Error(), "delete link") {
			t.Errorf("%s: error %v, want one that names the failed removal as well", last, err)
		}
		subject := map[string]string{"set alias": "endpoint ", "write network made": "network "}[last]
		checkProblems(t, r, subject)
		r.stop()
		if report := r.start(); len(report.Removed) != 1 || len(report.Problems) != 0 {
			t.Errorf("%s: report %+v, want one removal", last, report)
		}
		checkConsistent(t, r.Driver)
	}
}
