// SPDX-License-Identifier: Apache-2.0

// Package server imports what it may not.
package server

import (
	_ "github.com/vishvananda/netlink"
	_ "github.com/weaveplugin/weave/internal/nstest"
	_ "github.com/weaveplugin/weave/plugin"

	_ "github.com/weaveplugin/weave/api"    // lower: may be imported
	_ "github.com/weaveplugin/weave/driver" // likewise
)
