// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestSplitRule(t *testing.T) {
	for line, want := range map[string][]string{
		``:                                 nil,
		`-A FORWARD -j ACCEPT`:             {"-A", "FORWARD", "-j", "ACCEPT"},
		`--comment "a b" -j X`:             {"--comment", "a b", "-j", "X"},
		`--comment "" -j X`:                {"--comment", "", "-j", "X"},
		`--comment "say \"a\\b\" -j" -j X`: {"--comment", `say "a\b" -j`, "-j", "X"},
		`--comment "open`:                  {"--comment", "open"},
		`a  b `:                            {"a", "b"},
	} {
		if diff := cmp.Diff(want, splitRule(line)); diff != "" {
			t.Errorf("splitRule(%q) (-want +got):\n%s", line, diff)
		}
	}
}

// TestLegacyCommands: the commands do to a chain what the edit says.
func TestLegacyCommands(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	run(t, "*filter\n:FORWARD -\n"+
		"-A FORWARD -s 10.0.0.1/32 -m comment --comment \"say \\\"x\\\"\" -j DROP\n"+
		"-A FORWARD -s 10.0.0.2/32 -j DROP\n-A FORWARD -s 10.0.0.3/32 -j DROP\nCOMMIT\n", "iptables-legacy-restore")
	l := findLegacy(ipv4)
	chains, err := l.look(t.Context())
	must(t, err)
	c := chains[0]
	rules := forwarding.rulesFor(subjects(append(own(1), named("br0")...), "aa"), nil)
	e := edit{remove: []int{0, 2}, before: 1, add: rules}
	must(t, l.write(t.Context(), c, e))
	chains, err = l.look(t.Context())
	must(t, err)
	if diff := cmp.Diff(apply(c.rules, e), chains[0].rules); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLookMakesNoTable: neither of nftables nor legacy.
func TestLookMakesNoTable(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), own(1)))
	if got := tables(t); got != "table ip weave-aa\ntable ip6 weave-aa\n" {
		t.Errorf("tables of nftables:\n%s", got)
	}
	if legacyLives(ipv4) || legacyLives(ipv6) {
		t.Error("the kernel has legacy tables now")
	}
}

// TestNoCommands: without any command of iptables all is as with them, where the tables are of nftables. Where there
// are legacy ones that nobody can look at, that is told.
func TestNoCommands(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	w := newWire(t, "wv-1")
	addDockerChains(t, "nft")
	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), own(1)))
	must(t, f.Problem())
	w.checkTraffic(t, "without commands", true)

	t.Setenv("PATH", path)
	run(t, "", "iptables-legacy", "-P", "FORWARD", "DROP")
	must(t, f.Set(t.Context(), own(1)))
	if err := f.Problem(); !errors.Is(err, errUnusable) || !strings.Contains(err.Error(), "install iptables") {
		t.Errorf("Problem: %v, want that the legacy tables can't be used", err)
	}
	must(t, f.Set(t.Context(), nil))
	must(t, f.Problem())
}

// TestPlainCommandsAreEnough: a machine may have no other iptables than the legacy one.
func TestPlainCommandsAreEnough(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dirs := map[string]string{}
	for _, multi := range []string{"xtables-legacy-multi", "xtables-nft-multi"} {
		dirs[multi] = linkCommands(t, multi, "iptables-save", "iptables-restore")
	}
	for multi, want := range map[string]bool{"xtables-legacy-multi": true, "xtables-nft-multi": false} {
		t.Setenv("PATH", dirs[multi])
		if got := findLegacy(ipv4).save != ""; got != want {
			t.Errorf("plain iptables, which is %s, is taken for the legacy one: %t, want %t", multi, got, want)
		}
	}
}

// TestHangingCommandIsKilled: nobody waits for it, nor for what it has started.
func TestHangingCommandIsKilled(t *testing.T) {
	hang := "#!/bin/sh\ncat \"$0.fifo\"\n" // cat holds the output open when sh is killed
	for _, name := range []string{"iptables-legacy-save", "iptables-legacy-restore"} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			f, dir := brokenFirewall(t)
			path := replaceCommand(t, dir, name, hang)
			must(t, unix.Mkfifo(path+".fifo", 0o600))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- f.Set(ctx, own(1)) }()
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

// TestFailedSet: the error names the table and what the command said, it is a problem until it is cured, and then the
// rules are those that were wanted last.
func TestFailedSet(t *testing.T) {
	for _, name := range []string{"iptables-legacy-save", "iptables-legacy-restore"} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			f, dir := brokenFirewall(t)
			must(t, f.Set(t.Context(), named("br1", "br2")))
			run(t, "", "iptables-legacy", "-A", "FORWARD", "-m", "comment", "--comment", "weave:bb:br2", "-j", "ACCEPT")
			script := replaceCommand(t, dir, name, "#!/bin/sh\necho disk on fire >&2\nexit 2\n")
			for _, wanted := range [][]Bridge{nil, named("br1", "br3")} {
				err := f.Set(t.Context(), wanted)
				for what, err := range map[string]error{"Set": err, "Problem": f.Problem()} {
					text := fmt.Sprint(err)
					if !strings.Contains(text, "legacy") || !strings.Contains(text, "disk on fire") {
						t.Errorf("%s: %v, want an error with the table and the command's message", what, err)
					}
				}
			}
			must(t, os.Rename(script+".kept", script))
			start(t, f)
			eventually(t, "the problem is cured", func() bool { return f.Problem() == nil })
			if got := ours(forward(t, "iptables-legacy")); len(got) != 2 ||
				!strings.Contains(got[0], "br1") || !strings.Contains(got[1], "br3") {
				t.Errorf("rules %q, want those for br1 and br3", got)
			}
		})
	}
}

// TestRunTriesAgainAfterAFailure: it is logged once, however long it lasts.
func TestRunTriesAgainAfterAFailure(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dir := linkCommands(t, "xtables-legacy-multi", "iptables-legacy-save", "iptables-legacy-restore")
	run(t, "", "iptables-legacy", "-P", "FORWARD", "DROP")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	f, hook := newFirewall(t)
	must(t, f.Set(t.Context(), own(1)))
	start(t, f)
	script := replaceCommand(t, dir, "iptables-legacy-restore", "#!/bin/sh\necho disk on fire >&2\nexit 2\n")
	run(t, "", "iptables-legacy", "-F", "FORWARD")
	eventually(t, "the failure is logged", func() bool { return logged(hook, logrus.ErrorLevel) > 0 })
	if err := f.Problem(); err == nil {
		t.Error("Problem: none, though rules are missing")
	}
	must(t, os.Rename(script+".kept", script))
	eventually(t, "the problem is cured", func() bool { return f.Problem() == nil })
	if got := ours(forward(t, "iptables-legacy")); len(got) != 1 {
		t.Errorf("rules %q, want one", got)
	}
	if n := logged(hook, logrus.ErrorLevel); n != 1 {
		t.Errorf("logged %d errors, want one, however long it lasts", n)
	}
}

// brokenFirewall returns a Firewall on a kernel with legacy tables, and the directory with the commands for IPv4.
func brokenFirewall(t *testing.T) (*Firewall, string) {
	t.Helper()
	run(t, "", "iptables-legacy", "-P", "FORWARD", "DROP")
	dir := linkCommands(t, "xtables-legacy-multi", "iptables-legacy-save", "iptables-legacy-restore")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	f, _ := newFirewall(t)
	return f, dir
}

// linkCommands makes a directory with these of iptables's commands.
func linkCommands(t *testing.T, multi string, names ...string) string {
	t.Helper()
	path, err := exec.LookPath(multi)
	must(t, err)
	dir := t.TempDir()
	for _, name := range names {
		must(t, os.Symlink(path, filepath.Join(dir, name)))
	}
	return dir
}

// replaceCommand puts a script in a command's place at once, since Run may be running it, and returns its path. The
// command is kept beside it, with the suffix .kept.
func replaceCommand(t *testing.T, dir, name, script string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	multi, err := os.Readlink(path)
	must(t, err)
	must(t, os.Symlink(multi, path+".kept"))
	must(t, os.WriteFile(path+".new", []byte(script), 0o755))
	must(t, os.Rename(path+".new", path))
	return path
}
