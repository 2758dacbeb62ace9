// SPDX-License-Identifier: Apache-2.0

// Package driver enters namespaces in each way that there is.
package driver

import (
	sys "syscall"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var _ = unix.Setns
var _ = sys.Unshare(0)
var _ = netns.Set(0)
var _, _ = netlink.NewHandleAt(0)
var options = netlink.LinkSubscribeOptions{Namespace: nil}
var _ = options.Namespace
var _ network.JoinRequest
