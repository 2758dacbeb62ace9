// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/store"
)

// TestVerdict shows what is made of the ways in which the child can end.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name, script string
		want         error // nil: neither ErrDamaged nor ErrFuture
		says         string
	}{
		{"damaged", "echo page 7; exit 3", store.ErrDamaged, "state is damaged: page 7"},
		{"of the future", "echo version 2; exit 4", store.ErrFuture, "newer version of weave: version 2"},
		{"it could not begin", "echo no limits; exit 5", nil, "no limits"},
		{"it crashed", "echo fatal error; echo goroutine 1; exit 2", store.ErrDamaged, "exit status 2: fatal error"},
		{"it crashed silently", "exit 2", store.ErrDamaged, "exit status 2"},
		{"it crashed twice", "kill -SEGV $$", store.ErrDamaged, "segmentation fault"},
		{"it was killed", "kill -9 $$", nil, "start weave again"},
		{"it was interrupted", "kill -INT $$", nil, "start weave again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", c.script).CombinedOutput()
			err = store.Verdict(output, err, time.Minute)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "goroutine") {
				t.Errorf("%v: want %q", err, c.says)
			}
			for _, known := range []error{store.ErrDamaged, store.ErrFuture} {
				if errors.Is(err, known) != (c.want == known) {
					t.Errorf("%v: want %v", err, c.want)
				}
			}
		})
	}
	if err := store.Verdict(nil, nil, 0); err != nil {
		t.Errorf("%v: want no error", err)
	}
	_, err := exec.CommandContext(t.Context(), "/nowhere").CombinedOutput()
	if err := store.Verdict(nil, err, 0); err == nil || errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v: want an error that says nothing of the file", err)
	}
}

// TestLoop has the child do what never ends: it is killed when it has used its CPU time.
func TestLoop(t *testing.T) {
	t.Parallel()
	output, err := child(t, "loop").CombinedOutput()
	if err := store.Verdict(output, err, time.Second); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v: want ErrDamaged; it wrote %q", err, output)
	}
}

// loop is the child of TestLoop.
func loop([]string) {
	must(store.Confine(1<<30, time.Second))
	for n := 0; ; n++ {
	}
}

// TestGoodIsNotRefused makes random changes to a state and checks it in between: whatever bbolt wrote must be good.
func TestGoodIsNotRefused(t *testing.T) {
	t.Parallel()
	const seed, rounds = 1, 200
	random := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "weave.db")
	s := mustOpen(t, path)
	defer mustClose(t, s)
	for round := range rounds {
		most := 1 << random.IntN(4)
		var changes []store.Change
		for range most {
			// A key of few, so that records are overwritten and removed as often as they are new.
			key := fmt.Sprintf("%0*d", 1+random.IntN(60), random.IntN(100))
			change := store.Change{Key: key, Value: make([]byte, random.IntN(1<<random.IntN(14)))}
			if random.IntN(2) == 0 {
				change = store.Delete(key)
			}
			changes = append(changes, change)
		}
		mustApply(t, s, changes...)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.TryOut(content); err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
	}
}

// TestCheckEndsWithContext ends the context while a good state is checked: that does not make it a damaged one.
func TestCheckEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := store.Check(ctx, state(t, fillPages))
	if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v: want the context's error", err)
	}
}

// TestChildGetsNothingElse lists the child's descriptors and environment.
func TestChildGetsNothingElse(t *testing.T) {
	t.Setenv("SECRET", "x")
	// This process may have been started with more than it opened itself.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := store.CheckerCommand(t.Context(), f)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "readlink /proc/self/fd/3; ls /proc/self/fd; env"}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	const want = "/dev/null\n0\n1\n2\n3\n4\n" // ls has the directory open as well
	if !strings.HasPrefix(string(output), want) || strings.Contains(string(output), "SECRET") {
		t.Errorf("%q: want %q and little more", output, want)
	}
}
