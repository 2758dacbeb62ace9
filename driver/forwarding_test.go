// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

func networkID(n int) NetworkID { return NetworkID(fmt.Sprintf("%012x%052x", n, 0)) }

// TestConcurrentNetworks: requests for different networks don't undo each other's rules.
func TestConcurrentNetworks(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	const count = 8
	for i := range count {
		r.createNetwork(underHostRules(networkID(i)))
	}
	var sets atomic.Int32
	r.pause()
	r.step = func(name string) {
		if name != "set firewall rules" {
			return
		}
		sets.Add(1)
		if r.forwarding.TryAcquire(1) {
			r.forwarding.Release(1)
			t.Error("another request may set the firewall's rules between their computation and their setting")
		}
	}
	var requests sync.WaitGroup
	for i := range count {
		requests.Go(func() {
			if err := r.CreateNetwork(t.Context(), underHostRules(networkID(count+i))); err != nil {
				t.Error(err)
			}
		})
		requests.Go(func() {
			if err := r.DeleteNetwork(t.Context(), networkID(i)); err != nil {
				t.Error(err)
			}
		})
	}
	requests.Wait()
	if n := sets.Load(); n != 2*count {
		t.Errorf("the rules were set %d times, want %d", n, 2*count)
	}
	if n := len(r.Networks()); n != count {
		t.Errorf("%d networks, want %d", n, count)
	}
	checkConsistent(t, r.Driver)
}

// TestFirewallFails: a network that can't have its rules is not created, and one that can't lose them is not deleted.
// One that containers use already is adopted all the same.
func TestFirewallFails(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	old := newRig(t)
	old.createNetwork(underHostRules(networkID(1)))
	old.stop()

	multi, err := exec.LookPath("xtables-legacy-multi")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"iptables-legacy-save", "iptables-legacy-restore"} {
		if err := os.Symlink(multi, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := exec.Command("iptables-legacy", "-P", "FORWARD", "DROP").Run(); err != nil { // the table lives now
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	r := newRig(t)
	r.createNetwork(underHostRules(networkID(2)))

	save := filepath.Join(dir, "iptables-legacy-save")
	script := "#!/bin/sh\necho disk on fire >&2\nexit 2\n"
	if err := os.Remove(save); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(save, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"create": r.CreateNetwork(t.Context(), underHostRules(networkID(3))),
		"delete": r.DeleteNetwork(t.Context(), networkID(2)),
		"adopt":  r.Adopt(t.Context(), underHostRules(networkID(1)), nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("%s: %v, want an error with the message of iptables", what, err)
		}
	}
	for n, want := range map[int]bool{1: true, 2: true, 3: false} {
		if _, ok := r.tracked.network(networkID(n)); ok != want {
			t.Errorf("network %d is tracked: %t, want %t", n, ok, want)
		}
	}

	if err := os.Remove(save); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(multi, save); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteNetwork(t.Context(), networkID(2)); err != nil {
		t.Fatal(err)
	}
	checkConsistent(t, r.Driver)
	if err := r.firewall.Problem(); err != nil {
		t.Errorf("problem: %v, want none", err)
	}
}
