// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestHangingCommandIsKilled: nobody waits for it, nor for what it has started.
func TestHangingCommandIsKilled(t *testing.T) {
	hang := "#!/bin/sh\ncat \"$0.fifo\"\n" // cat holds the output open when sh is killed
	for _, name := range []string{"iptables-nft", "iptables-nft-restore"} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			dir := commands(t, "iptables", "iptables-nft", "iptables-nft-restore")
			path := replaceCommand(t, dir, name, hang)
			must(t, unix.Mkfifo(path+".fifo", 0o600))
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			f, _ := newFirewall(t)
			f.tables = slices.DeleteFunc(f.tables, func(tt *table) bool { return filepath.Dir(tt.list) != dir })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- f.Set(ctx, networks(1)) }()
			var input *os.File // cat ends with it
			eventually(t, name+" runs", func() bool {
				var err error
				input, err = os.OpenFile(path+".fifo", os.O_WRONLY|unix.O_NONBLOCK, 0)
				return err == nil
			})
			defer input.Close()
			cancel()
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Set: %v, want %v", err, context.Canceled)
				}
			case <-time.After(deadline):
				t.Error("Set does not end with its context")
			}
		})
	}
}

func TestGoesOnWithoutIPv6(t *testing.T) {
	broken := "#!/bin/sh\n[ $1 = --version ] && echo 'ip6tables v1.8.9 (nf_tables)' && exit\n" +
		"echo no such protocol >&2\nexit 3\n"
	for name, script := range map[string]string{"no command": "", "refused by the kernel": broken} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			dir := commands(t, "iptables", "iptables-nft", "iptables-nft-restore")
			if script != "" {
				for _, name := range []string{"ip6tables-nft", "ip6tables-nft-restore"} {
					replaceCommand(t, dir, name, script)
				}
			}
			path := os.Getenv("PATH")
			t.Setenv("PATH", dir)
			f, hook := newFirewall(t)
			must(t, f.Set(t.Context(), networks(1)))
			must(t, f.Set(t.Context(), networks(1, 2)))
			if n := warnings(hook); n != 1 {
				t.Errorf("warned %d times, want once", n)
			}
			if err := f.Problem(); err != nil {
				t.Errorf("Problem: %v, want none", err)
			}
			t.Setenv("PATH", path)
			if diff := cmp.Diff([]string{"wv-1", "wv-2"}, ruleBridges(forward(t, "iptables-nft"))); diff != "" {
				t.Errorf("IPv4 rules for bridges (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlainCommandsAreEnough(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dir := commands(t, "iptables", "iptables-restore", "ip6tables", "ip6tables-restore")
	path := os.Getenv("PATH")
	t.Setenv("PATH", dir)
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1)))
	t.Setenv("PATH", path)
	assertRules(t, nft, "wv-1")
}

func TestNoCommands(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	log, _ := test.NewNullLogger()
	if _, err := New(Options{StateID: "aa", Log: logrus.NewEntry(log)}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("New: %v, want %v", err, exec.ErrNotFound)
	}
}

// TestFailedSet: the error names the table and what the command said, it is a problem until it is cured, and then the
// rules are those that were wanted last.
func TestFailedSet(t *testing.T) {
	for _, name := range []string{"iptables-nft", "iptables-nft-restore"} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			f, _, dir := newFirewallWith(t)
			must(t, f.Set(t.Context(), networks(1, 2)))
			appendRules(t, nft, strings.Replace(ours2, ":aa:", ":bb:", 1))
			cure := breakCommand(t, dir, name)
			for _, wanted := range []map[string]string{nil, networks(1, 3)} {
				err := f.Set(t.Context(), wanted)
				for what, err := range map[string]error{"Set": err, "Problem": f.Problem()} {
					text := fmt.Sprint(err)
					if !strings.Contains(text, "nft IPv4") || !strings.Contains(text, "disk on fire") {
						t.Errorf("%s: %v, want an error with the table and the command's message", what, err)
					}
				}
			}
			cure()
			start(t, f)
			eventually(t, "the problem is cured", func() bool { return f.Problem() == nil })
			assertRules(t, nft, "wv-1", "wv-3")
			for _, cmd := range families(nft) {
				if strings.Contains(run(t, "", cmd, "-S", "FORWARD"), ":bb:n2") {
					t.Errorf("%s still has the other state's rule for a network that was this state's", cmd)
				}
			}
		})
	}
}

func TestRunTriesAgainAfterAFailure(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, hook, dir := newFirewallWith(t)
	must(t, f.Set(t.Context(), networks(1)))
	start(t, f)
	run(t, "", "iptables-nft", "-F", "FORWARD")
	eventually(t, "the rule is back", func() bool { return len(ruleBridges(forward(t, "iptables-nft"))) == 1 })
	cure := breakCommand(t, dir, "iptables-nft-restore")
	run(t, "", "iptables-nft", "-F", "FORWARD")
	eventually(t, "the failure is logged", func() bool { return logged(hook, logrus.ErrorLevel) > 0 })
	if err := f.Problem(); err == nil {
		t.Error("Problem: none, though rules are missing")
	}
	cure()
	eventually(t, "the problem is cured", func() bool { return f.Problem() == nil })
	assertRules(t, nft, "wv-1")
	if n := logged(hook, logrus.ErrorLevel); n != 1 {
		t.Errorf("logged %d errors, want one, however long it lasts", n)
	}
}

// newFirewallWith returns a Firewall whose commands, of the back end nft, are in dir.
func newFirewallWith(t *testing.T) (f *Firewall, hook *test.Hook, dir string) {
	t.Helper()
	dir = commands(t, "iptables", "iptables-nft", "iptables-nft-restore", "ip6tables-nft", "ip6tables-nft-restore")
	path := os.Getenv("PATH")
	t.Setenv("PATH", dir)
	f, hook = newFirewall(t)
	t.Setenv("PATH", path)
	return f, hook, dir
}

// breakCommand makes a command fail until cure is called.
func breakCommand(t *testing.T, dir, name string) (cure func()) {
	t.Helper()
	path := filepath.Join(dir, name)
	multi, err := os.Readlink(path)
	must(t, err)
	must(t, os.Symlink(multi, path+".kept"))
	script := replaceCommand(t, dir, name+".broken", "#!/bin/sh\necho disk on fire >&2\nexit 2\n")
	must(t, os.Rename(script, path)) // at once, since Run may be running it
	return func() { must(t, os.Rename(path+".kept", path)) }
}

// commands makes a directory with these of iptables's commands, of the back end nft.
func commands(t *testing.T, names ...string) string {
	t.Helper()
	multi, err := exec.LookPath("xtables-nft-multi")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range names {
		must(t, os.Symlink(multi, filepath.Join(dir, name)))
	}
	return dir
}

// replaceCommand puts a script in a command's place, and returns its path.
func replaceCommand(t *testing.T, dir, name, script string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	must(t, os.WriteFile(path, []byte(script), 0o755))
	return path
}
