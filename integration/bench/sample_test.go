// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// inTurns calls each function once in each round, so that whatever else the machine does affects all of them alike, and
// returns the values of each. Every round starts with another function.
func inTurns(rounds int, runs ...func() float64) [][]float64 {
	found := make([][]float64, len(runs))
	for round := range rounds {
		for i := range runs {
			n := (round + i) % len(runs)
			found[n] = append(found[n], runs[n]())
		}
	}
	return found
}

// inTurnsOn is inTurns for one measurement of several things.
func inTurnsOn[T any](b *testing.B, rounds int, run func(*testing.B, T) float64, things []T) [][]float64 {
	b.Helper()
	var runs []func() float64
	for _, thing := range things {
		runs = append(runs, func() float64 { return run(b, thing) })
	}
	return inTurns(rounds, runs...)
}

// milliseconds returns how long f takes.
func milliseconds(f func()) float64 {
	start := time.Now()
	f()
	return time.Since(start).Seconds() * 1e3
}

// ratios returns the ratio of a to b in each round.
func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return r
}

// spread describes a sample: half of it is between Low and High, its quartiles.
type spread struct {
	Low    float64 `json:"low"`
	Median float64 `json:"median"`
	High   float64 `json:"high"`
}

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High) }

func spreadOf(sample []float64) spread {
	return spread{Low: quantile(sample, 0.25), Median: median(sample), High: quantile(sample, 0.75)}
}

func median(sample []float64) float64 { return quantile(sample, 0.5) }

// quantile returns the value below which the share q of the sample is.
func quantile(sample []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(sample))
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 == len(s) {
		return s[i]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}
