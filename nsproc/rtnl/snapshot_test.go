// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"errors"
	"testing"
)

// TestDumpIsBounded: a container that has very much does not make the process inside it grow without end.
func TestDumpIsBounded(t *testing.T) {
	m, _, err := NextMessage(message(20, 0, 1, make([]byte, 48)))
	if err != nil {
		t.Fatal(err)
	}
	all, n := make([]byte, 0, maxDump), 0
	for ; err == nil; n++ {
		all, err = appendMessage(all, m)
	}
	if !errors.Is(err, errLong) || len(all) != maxDump || n-1 != maxDump/64 {
		t.Errorf("%d messages of %d bytes, then %v; want them to end at %d", n-1, len(all), err, maxDump)
	}
}
