// SPDX-License-Identifier: Apache-2.0

// Command weave wires packages together.
package main

import (
	_ "github.com/weaveplugin/weave/plugin/remote/wiretest"

	_ "github.com/weaveplugin/weave/plugin/cli" // lower: may be imported
)
