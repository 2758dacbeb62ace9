// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestSupported: the kernel of the tests can make the table, which is found out without making one; of a flag that no
// kernel knows it says that it can't.
func TestSupported(t *testing.T) {
	nstest.New(t).Do(t, func() error {
		if err := Supported(); err != nil {
			t.Error(err)
		}
		if err := supported(1 << 31); !errors.Is(err, ErrNoOwner) {
			t.Errorf("a flag that is not known: %v, want %v", err, ErrNoOwner)
		}
		out, err := exec.CommandContext(t.Context(), "nft", "list", "ruleset").CombinedOutput()
		if err == nil && len(out) > 0 {
			err = fmt.Errorf("left behind: %s", out)
		}
		return err
	})
}
