// SPDX-License-Identifier: Apache-2.0

// Package inspect imports what it may not.
package inspect

import (
	_ "github.com/weaveplugin/weave/api/server"

	_ "github.com/weaveplugin/weave/api"    // lower: may be imported
	_ "github.com/weaveplugin/weave/driver" // of the same folder: may be imported
)
