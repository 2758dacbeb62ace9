package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// eachBackend runs a test once for each back end, in namespaces of its own.
func eachBackend(t *testing.T, f func(t *testing.T, backend string)) {
	for _, backend := range []string{nft, legacy} {
		t.Run(backend, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			f(t, backend)
		})
	}
}

func TestAllowLetsFramesPass(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		startEngine(t, backend)
		w := newWire(t, backend, "wv-1")
		f, _ := newFirewall(t)
		assertPasses := func(want bool, when string) {
			t.Helper()
			for _, kind := range kinds() {
				if got := w.passes(t, kind); got != want {
					t.Errorf("%s: %s passes: %t, want %t", when, kind, got, want)
				}
			}
		}

		assertPasses(false, "without a rule")
		must(t, f.Allow(t.Context(), "wv-1", "n1"))
		assertPasses(true, "allowed")
		for _, cmd := range w.cmds {
			run(t, "", cmd, "-I", "DOCKER-USER", "-i", "wv-1", "-m", "comment", "--comment", "refused", "-j", "DROP")
		}
		assertPasses(false, "with the user's own drop")
		for _, cmd := range w.cmds {
			run(t, "", cmd, "-D", "DOCKER-USER", "1")
		}
		assertPasses(true, "without it")
		must(t, f.Revoke(t.Context(), "wv-1", "n1"))
		assertPasses(false, "revoked")
	})
}

func TestAllowAndRevokeTwice(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		startEngine(t, backend)
		f, _ := newFirewall(t)
		must(t, f.Revoke(t.Context(), "wv-1", "n1"))
		for range 2 {
			must(t, f.Allow(t.Context(), "wv-1", "n1"))
			must(t, f.Allow(t.Context(), "wv-2", "n2"))
			assertRules(t, backend, "wv-1", "wv-2")
		}
		for range 2 {
			must(t, f.Revoke(t.Context(), "wv-1", "n1"))
			assertRules(t, backend, "wv-2")
		}
	})
}

func TestConcurrentAllow(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		startEngine(t, backend)
		f, _ := newFirewall(t)
		start(t, f)
		// Somebody else is busy with the same chain.
		ctx, cancel := context.WithCancel(t.Context())
		var other sync.WaitGroup
		other.Go(func() {
			for ctx.Err() == nil {
				exec.Command("iptables-"+backend, "-w", "-I", "FORWARD", "-s", "10.0.0.1", "-j", "DROP").Run()
				exec.Command("iptables-"+backend, "-w", "-D", "FORWARD", "-s", "10.0.0.1", "-j", "DROP").Run()
			}
		})
		var all sync.WaitGroup
		var want []string
		for i := range 20 {
			bridge := fmt.Sprintf("wv-%02d", i)
			want = append(want, bridge)
			all.Go(func() {
				if err := f.Allow(t.Context(), bridge, "n1"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		cancel()
		other.Wait()
		assertRules(t, backend, want...)
	})
}

func TestRefusedNamesChangeNothing(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	if err := f.Allow(t.Context(), "wv+", "n1"); err == nil {
		t.Error("Allow took a wildcard")
	}
	if err := f.Reconcile(t.Context(), map[string]string{"wv-1": "n1", "wv-2": "a b"}); err == nil {
		t.Error("Reconcile took a network id with a space")
	}
	assertRules(t, nft)
	if _, err := New(Options{StateID: "a:b", Log: f.log}); err == nil {
		t.Error("New took a state id with a colon")
	}
}

func TestReconcile(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	startEngine(t, nft)
	for _, backend := range []string{nft, legacy} { // left behind by an earlier run, with either back end
		for _, cmd := range families(backend) {
			for _, rule := range []string{ours1, ours2, theirs1} {
				run(t, "*filter\n"+rule+"COMMIT\n", cmd+"-restore", "--noflush")
			}
		}
	}
	f, _ := newFirewall(t)

	must(t, f.Allow(t.Context(), "wv-3", "n3"))
	assertRules(t, nft, "wv-1", "wv-2", "wv-3")
	assertRules(t, legacy)

	must(t, f.Reconcile(t.Context(), map[string]string{"wv-2": "n2", "wv-4": "n4"}))
	assertRules(t, nft, "wv-2", "wv-4")
	must(t, f.Reconcile(t.Context(), nil))
	assertRules(t, nft)
	for _, backend := range []string{nft, legacy} {
		for _, cmd := range families(backend) {
			if !slices.Contains(forward(t, cmd), strings.TrimSpace(theirs1)) {
				t.Errorf("%s: another instance's rule is gone", cmd)
			}
		}
	}
}

// TestTakesOverFromAnotherState: the state was lost, and this one has taken its networks over from Docker.
func TestTakesOverFromAnotherState(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		startEngine(t, backend)
		earlier2 := strings.Replace(ours2, ":aa:", ":bb:", 1)
		leaveBehind := func(rules ...string) {
			for _, cmd := range families(backend) {
				run(t, "*filter\n"+strings.Join(rules, "")+"COMMIT\n", cmd+"-restore", "--noflush")
			}
		}
		assertOnly := func(when string, want ...string) {
			t.Helper()
			for _, cmd := range families(backend) {
				var got []string
				for _, r := range forward(t, cmd) {
					if isWeave(r) {
						got = append(got, r+"\n")
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: weave's rules of %s (-want +got):\n%s", when, cmd, diff)
				}
			}
		}
		leaveBehind(earlier1, earlier2, theirs1)
		f, _ := newFirewall(t)
		must(t, f.Allow(t.Context(), "wv-1", "n1"))
		assertOnly("one taken over", ours1, earlier2, theirs1)
		must(t, f.Reconcile(t.Context(), map[string]string{"wv-1": "n1", "wv-2": "n2"}))
		assertOnly("both", ours2, ours1, theirs1)
		leaveBehind(earlier1)
		must(t, f.Revoke(t.Context(), "wv-1", "n1"))
		assertOnly("revoked", ours2, theirs1)
		leaveBehind(earlier1)
		must(t, f.Revoke(t.Context(), "wv-1", "n1")) // its first attempt may have failed
		assertOnly("revoked twice", ours2, theirs1)
		leaveBehind(earlier1)
		must(t, f.Allow(t.Context(), "wv-3", "n3"))
		assertOnly("a network that is this state's no more", strings.ReplaceAll(ours1, "1", "3"), ours2, theirs1, earlier1)
	})
}

// TestHangingCommandIsKilled: nobody waits for it, nor for what it has started.
func TestHangingCommandIsKilled(t *testing.T) {
	hang := "#!/bin/sh\ncat \"$0.fifo\"\n" // cat holds the output open when sh is killed
	for _, name := range []string{"iptables-nft", "iptables-nft-restore"} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			dir := commands(t, "iptables", "iptables-nft", "iptables-nft-restore")
			path := filepath.Join(dir, name)
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, []byte(hang), 0o755))
			must(t, unix.Mkfifo(path+".fifo", 0o600))
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			f, _ := newFirewall(t)
			f.tables = slices.DeleteFunc(f.tables, func(tt *table) bool { return filepath.Dir(tt.list) != dir })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- f.Allow(ctx, "wv-1", "n1") }()
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
					t.Errorf("Allow: %v, want %v", err, context.Canceled)
				}
			case <-time.After(deadline):
				t.Error("Allow does not end with its context")
			}
		})
	}
}

func TestLookMakesNoLegacyTable(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Allow(t.Context(), "wv-1", "n1")) // no Engine: the system's back end, nft here
	must(t, f.Revoke(t.Context(), "wv-1", "n1"))
	startEngine(t, nft)
	must(t, f.Reconcile(t.Context(), map[string]string{"wv-1": "n1"}))
	if legacyTable(false) || legacyTable(true) {
		t.Error("the kernel has got legacy tables")
	}
	assertRules(t, nft, "wv-1")
}

func TestEngineInBothBackends(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	startEngine(t, nft)
	startEngine(t, legacy)
	f, _ := newFirewall(t)
	must(t, f.Allow(t.Context(), "wv-1", "n1"))
	assertRules(t, nft, "wv-1")
	assertRules(t, legacy, "wv-1")
}

func TestEngineIsKnownWithItsJumpsFlushed(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	startEngine(t, legacy)
	run(t, "", "iptables-legacy", "-F")
	f, _ := newFirewall(t)
	must(t, f.Allow(t.Context(), "wv-1", "n1"))
	assertRules(t, legacy, "wv-1")
	assertRules(t, nft)
}

// TestEngineIPv4Only: 20.10 leaves IPv6 alone unless told otherwise.
func TestEngineIPv4Only(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	run(t, "", "iptables-legacy", "-N", "DOCKER-USER")
	f, _ := newFirewall(t)
	must(t, f.Allow(t.Context(), "wv-1", "n1"))
	assertRules(t, legacy, "wv-1")
	assertRules(t, nft)
}

func TestRunPutsRulesBack(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spoil   func(t *testing.T, cmd string)
		missing bool // rules were gone, which is worth a warning
	}{
		{"flush", func(t *testing.T, cmd string) { run(t, "", cmd, "-F", "FORWARD") }, true},
		{"delete", func(t *testing.T, cmd string) { run(t, "", cmd, "-D", "FORWARD", "2") }, true},
		{"reload", func(t *testing.T, cmd string) { run(t, "*filter\n:FORWARD DROP\nCOMMIT\n", cmd+"-restore") }, true},
		{"restart of the engine", func(t *testing.T, cmd string) {
			run(t, "", cmd, "-I", "FORWARD", "-j", "DOCKER-FORWARD")
			run(t, "", cmd, "-D", "FORWARD", "-j", "DOCKER-USER")
			run(t, "", cmd, "-I", "FORWARD", "-j", "DOCKER-USER")
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, backend string) {
				startEngine(t, backend)
				f, hook := newFirewall(t)
				want := map[string]string{"wv-1": "n1", "wv-2": "n2"}
				must(t, f.Reconcile(t.Context(), want))
				start(t, f)
				hook.Reset()
				for _, cmd := range families(backend) {
					tt.spoil(t, cmd)
				}
				for _, cmd := range families(backend) {
					eventually(t, "rules are back in "+cmd, func() bool {
						chain := forward(t, cmd)
						return len(ruleBridges(chain)) == 2 && len(plan(chain, want, f.owner()).commands) == 0
					})
				}
				eventually(t, "the repair is logged", func() bool { return len(hook.AllEntries()) >= 2 })
				if got := warnings(hook) > 0; got != tt.missing {
					t.Errorf("warned: %t, want %t", got, tt.missing)
				}
			})
		})
	}
}

func TestRunPutsRulesBackAfterRulesetFlush(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	startEngine(t, nft)
	f, hook := newFirewall(t)
	must(t, f.Reconcile(t.Context(), map[string]string{"wv-1": "n1"}))
	start(t, f)
	const rounds = 3
	for range rounds {
		run(t, "", "nft", "flush", "ruleset")
		for _, cmd := range families(nft) {
			eventually(t, "rule is back in "+cmd, func() bool { return slices.Equal(ruleBridges(forward(t, cmd)), []string{"wv-1"}) })
		}
	}
	// Own writes are heard as well. Had each led to another, there would be more.
	must(t, f.acquire(t.Context())) // the last is logged
	defer f.release()
	if got, want := warnings(hook), rounds*2; got != want {
		t.Errorf("%d repairs, want %d: one for each flush and family", got, want)
	}
}

func TestRunFollowsTheEngine(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Reconcile(t.Context(), map[string]string{"wv-1": "n1"}))
	assertRules(t, nft, "wv-1")
	start(t, f)
	assertMoves := func(from, to string) {
		t.Helper()
		for i, cmd := range families(to) {
			eventually(t, "rule is in "+cmd+" alone", func() bool {
				return len(ruleBridges(forward(t, cmd))) == 1 && len(ruleBridges(forward(t, families(from)[i]))) == 0
			})
		}
	}
	startEngine(t, legacy)
	assertMoves(nft, legacy)
	stopEngine(t, legacy)
	startEngine(t, nft)
	assertMoves(legacy, nft)
}

func TestRunEndsWithItsContext(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	before := runtime.NumGoroutine()
	f, _ := newFirewall(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestCallsEndWithTheirContext(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.acquire(t.Context())) // somebody is busy
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"Allow":     f.Allow(ctx, "wv-1", "n1"),
		"Revoke":    f.Revoke(ctx, "wv-1", "n1"),
		"Reconcile": f.Reconcile(ctx, nil),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %v", name, err, context.Canceled)
		}
	}
}

func TestGoesOnWithoutIPv6(t *testing.T) {
	broken := "#!/bin/sh\n[ $1 = --version ] && echo 'ip6tables v1.8.9 (nf_tables)' && exit\necho no such protocol >&2\nexit 3\n"
	for name, script := range map[string]string{"no command": "", "refused by the kernel": broken} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			dir := commands(t, "iptables", "iptables-nft", "iptables-nft-restore")
			if script != "" {
				for _, name := range []string{"ip6tables-nft", "ip6tables-nft-restore"} {
					must(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
				}
			}
			path := os.Getenv("PATH")
			t.Setenv("PATH", dir)
			f, hook := newFirewall(t)
			must(t, f.Allow(t.Context(), "wv-1", "n1"))
			must(t, f.Allow(t.Context(), "wv-2", "n2"))
			if n := warnings(hook); n != 1 {
				t.Errorf("told %d times, want once", n)
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
	must(t, f.Allow(t.Context(), "wv-1", "n1"))
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

func TestFailureNamesTheCause(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dir := commands(t, "iptables", "iptables-nft")
	must(t, os.WriteFile(filepath.Join(dir, "iptables-nft-restore"), []byte("#!/bin/sh\necho disk on fire >&2\nexit 2\n"), 0o755))
	t.Setenv("PATH", dir)
	f, _ := newFirewall(t)
	err := f.Allow(t.Context(), "wv-1", "n1")
	if err == nil || !strings.Contains(err.Error(), "disk on fire") || !strings.Contains(err.Error(), "wv-1") {
		t.Errorf("Allow: %v, want the bridge and the command's words in it", err)
	}
	if len(f.wanted) != 0 {
		t.Errorf("remembers %v although it failed", f.wanted)
	}
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

func warnings(hook *test.Hook) int {
	n := 0
	for _, e := range hook.AllEntries() {
		if e.Level == logrus.WarnLevel {
			n++
		}
	}
	return n
}
