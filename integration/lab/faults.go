// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Faults is what happens to the frames from one port of a Switch to another. The shares are from 0 to 1, of all frames.
type Faults struct {
	Drop      float64       // share that is lost
	Duplicate float64       // share that arrives twice
	Reorder   float64       // share that those which come after it overtake
	Delay     time.Duration // by which every frame comes late
}

// Cut is nothing gets through.
var Cut = Faults{Drop: 1}

// overtaken is by how much a frame comes late that is to be overtaken.
const overtaken = 10 * time.Millisecond

// line is a way through a Switch. It has a random source of its own, of which each frame takes as much as any other: so
// the fate of the line's nth frame follows from the seed and the faults, whatever goes on elsewhere.
type line struct {
	random *rand.Rand
	faults Faults

	frames, lost, doubled, late int // counts
}

func newLine(seed uint64, w way) *line { return &line{random: random(seed, w.from+"\x00"+w.to)} }

// random returns a source of its own for each name.
func random(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails, see hash.Hash
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Random returns a random source for decisions of the test's, which follow from the seed. Each name has its own.
func (s *Switch) Random(name string) *rand.Rand { return random(s.seed, name) }

// fate returns by how much the next frame comes late, for each time that it arrives.
func (l *line) fate() []time.Duration {
	lost, twice, reordered := l.random.Float64(), l.random.Float64(), l.random.Float64()
	l.frames++
	if lost < l.faults.Drop {
		l.lost++
		return nil
	}
	late := l.faults.Delay
	if reordered < l.faults.Reorder {
		late += overtaken
	}
	if late > 0 {
		l.late++
	}
	out := []time.Duration{late}
	if twice < l.faults.Duplicate {
		l.doubled++
		out = append(out, late)
	}
	return out
}

// String counts what has become of the frames.
func (l *line) String() string {
	return fmt.Sprintf("%d frames, %d lost, %d doubled, %d late", l.frames, l.lost, l.doubled, l.late)
}

// seedVariable is the environment variable that repeats what a test did with a seed.
const seedVariable = "WEAVE_LAB_SEED"

// Seed returns the seed of a test's random decisions, the number in $WEAVE_LAB_SEED or any one, and logs it. With the
// same seed a test decides the same; how its processes and frames meet is still the machine's.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s=%q: want a number", seedVariable, text)
		}
	}
	t.Logf("again with the same decisions: %s=%d", seedVariable, seed)
	return seed
}
