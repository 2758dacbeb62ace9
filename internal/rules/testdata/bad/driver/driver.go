// Package driver enters namespaces in each way that there is.
package driver

import (
	sys "syscall"

	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var _ = unix.Setns
var _ = sys.Unshare(0)
var _ = netns.Set(0)
var _, _ = netlink.NewHandleAt(0)
var config = mdlayher.Config{NetNS: 3}
var _ = config.NetNS
var options = netlink.LinkSubscribeOptions{Namespace: nil}
