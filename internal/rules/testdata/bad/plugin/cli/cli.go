// SPDX-License-Identifier: Apache-2.0

// Package cli imports what it may not.
package cli

import (
	_ "github.com/weaveplugin/weave/plugin"
	_ "github.com/weaveplugin/weave/plugin/daemon"

	_ "github.com/weaveplugin/weave/api" // lower: may be imported
)
