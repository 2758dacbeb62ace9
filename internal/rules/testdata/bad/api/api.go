// Package api imports what it may not.
package api

import (
	_ "github.com/vishvananda/netlink"
	_ "github.com/weaveplugin/weave/internal/nstest"
	_ "github.com/weaveplugin/weave/plugin"

	_ "github.com/weaveplugin/weave/driver" // lower: may be imported
)
