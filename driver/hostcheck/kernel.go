// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/nsproc/netnsid"
	"github.com/weaveplugin/weave/nsproc/nft"
)

// kernel is what the kernel has of what weave uses.
type kernel struct {
	release  string
	features []feature
}

// feature is something that weave uses.
type feature struct {
	name    string
	err     error  // why it is not there, or can't be used; nil: it is
	without string // what does not work then
	minor   bool   // all else works
}

// tcPrograms is the name of the feature that keeps the host apart from networks.
const tcPrograms = "tc programs"

// readKernel asks the kernel for each feature. Nothing is changed by that, but that the kernel may load a module.
func (c *Checker) readKernel(ctx context.Context) kernel {
	var name unix.Utsname
	k := kernel{release: "of an unknown release"}
	if unix.Uname(&name) == nil {
		k.release = unix.ByteSliceToString(name.Release[:])
	}
	for _, kind := range c.linkKinds() {
		k.features = append(k.features, feature{
			name: "links of the kind " + kind.Type(), err: hasKind(kind), without: "networks can't be made",
		})
	}
	k.features = append(k.features,
		feature{"nftables", c.o.Tracker.Nftables(ctx), "the host takes what containers send to all", false},
		feature{tcPrograms, c.o.Programs(), "frames inside networks pass the host's rules, and containers can " +
			"send router advertisements to each other", true},
	)
	if tried, err := c.listsNamespaces(ctx); tried {
		k.features = append(k.features, feature{
			"listing by namespace id (Linux 5.0)", err, "nsproc runs for each live listing", true,
		})
	}
	if c.o.Cluster {
		k.features = append(k.features, feature{
			"tables of nftables with an owner (Linux 5.12)", nft.Supported(),
			"containers don't find those on other hosts by name", true,
		})
	}
	return k
}

// linkKinds are the kinds of links that weave makes on this host.
func (c *Checker) linkKinds() []netlink.Link {
	// No kind takes an address of five bytes: so the kernel says whether it knows the kind, and makes no link.
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "weave-none", make([]byte, 5)
	kinds := []netlink.Link{&netlink.Bridge{LinkAttrs: attrs}, &netlink.Veth{LinkAttrs: attrs, PeerName: "weave-peer"}}
	if c.o.Cluster {
		kinds = append(kinds, &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1})
	}
	return kinds
}

// hasKind returns why the kernel makes no links of a kind.
func hasKind(link netlink.Link) error {
	err := netlink.LinkAdd(link)
	switch {
	case err == nil: // a kernel that takes any address
		return netlink.LinkDel(link)
	case errors.Is(err, unix.EINVAL):
		return nil
	}
	return err
}

// listsNamespaces returns why the kernel does not list what is in another namespace, if there is one to try it with.
func (c *Checker) listsNamespaces(ctx context.Context) (tried bool, unsupported error) {
	for _, e := range c.o.Tracker.Endpoints() {
		if e.Sandbox == "" {
			continue
		}
		if _, err := c.o.Kernel.List(ctx, e.Sandbox); err == nil || errors.Is(err, netnsid.ErrUnsupported) {
			return true, err
		}
	}
	return false, nil
}

// ofKernel judges the features.
func ofKernel(f facts) (found []api.HostFinding) {
	var there []string
	for _, x := range f.kernel.features {
		switch {
		case x.err == nil:
			there = append(there, x.name)
		case x.minor:
			found = append(found, warning("use a newer kernel, or one with that feature", "%s: %v; %s", x.name, x.err,
				x.without))
		default:
			found = append(found, failed("use a kernel with that feature, or load its module (modprobe)",
				"%s: %v; %s", x.name, x.err, x.without))
		}
	}
	return each(found, "Linux %s has %s", f.kernel.release, strings.Join(there, ", "))
}

// rights are capabilities of weave's.
type rights struct {
	err      error              // they could not be read
	has      map[cap.Value]bool // weave itself
	children map[cap.Value]bool // processes that it starts, such as nsproc: those of the bounding set
	euid     int                // root's processes regain what is in the bounding set
}

// needs are the rights that weave uses, but for CAP_NET_BROADCAST, of which weave itself warns.
var needs = []struct {
	right   cap.Value
	child   bool // it is nsproc, or the process that loads tc programs, that needs it
	instead cap.Value
	without string
	minor   bool
}{
	{cap.NET_ADMIN, false, 0, "weave can make no links and no rules", false},
	{cap.SYS_ADMIN, true, 0, "nsproc can't enter containers: their addresses are not announced, and inspect, capture " +
		"and checks of them fail", false},
	{cap.NET_ADMIN, true, 0, "nsproc can configure nothing in containers", false},
	{cap.NET_RAW, true, 0, "nothing is announced, captured or probed in containers", true},
	{cap.NET_RAW, false, 0, "the tunnels between hosts are not probed, and nothing is captured", true},
	{cap.BPF, true, cap.SYS_ADMIN, "tc programs can't be loaded: frames inside networks pass the host's rules", true},
}

func readRights() rights {
	r := rights{has: map[cap.Value]bool{}, children: map[cap.Value]bool{}, euid: os.Geteuid()}
	own := cap.GetProc()
	for _, n := range needs {
		for _, v := range []cap.Value{n.right, n.instead} {
			has, err := own.GetFlag(cap.Effective, v)
			bound, err2 := cap.GetBound(v)
			// A kernel that does not know a capability has none of it.
			r.has[v] = err == nil && has
			r.children[v] = err2 == nil && bound && r.euid == 0
			if v == cap.NET_ADMIN {
				r.err = errors.Join(r.err, err, err2)
			}
		}
	}
	return r
}

// ofRights judges what weave may do.
func ofRights(f facts) (found []api.HostFinding) {
	if f.rights.err != nil {
		return []api.HostFinding{unknown("weave's capabilities can't be read: %v", f.rights.err)}
	}
	var there []string
	for _, n := range needs {
		set, whose := f.rights.has, "weave"
		if n.child {
			set, whose = f.rights.children, "nsproc"
		}
		right := strings.ToUpper(n.right.String())
		if set[n.right] || n.instead != 0 && set[n.instead] {
			there = append(there, fmt.Sprintf("%s (%s)", right, whose))
			continue
		}
		advice := "give weave that capability: CapabilityBoundingSet= of its unit, or docker plugin upgrade"
		if n.minor {
			found = append(found, warning(advice, "%s is missing (%s): %s", right, whose, n.without))
		} else {
			found = append(found, failed(advice, "%s is missing (%s): %s", right, whose, n.without))
		}
	}
	return each(found, "%s", strings.Join(there, ", "))
}
