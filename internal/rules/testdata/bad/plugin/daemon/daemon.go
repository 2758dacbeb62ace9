// SPDX-License-Identifier: Apache-2.0

// Package daemon imports its neighbour.
package daemon

import (
	_ "github.com/weaveplugin/weave/plugin/remote"

	_ "github.com/weaveplugin/weave/plugin/daemon/below" // of the same folder: may be imported
)
