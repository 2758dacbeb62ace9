// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"os"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }
