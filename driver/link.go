package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxPorts is the number of ports of a Linux bridge: BR_MAX_PORTS, 1024, less port 0, which is not used.
const maxPorts = 1023

// addrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h: the link gets no link-local address by itself.
const addrGenNone = 1

// A dump is asked for again when the kernel says that it changed meanwhile, as it does on a busy host.
const (
	dumpTime  = 5 * time.Second
	dumpPause = 10 * time.Millisecond
)

// dump runs list until its answer is of one piece, dumpTime at most. An incomplete listing is an error: nothing must be
// deleted by it.
func dump[T any](ctx context.Context, what string, list func() ([]T, error)) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, dumpTime)
	defer cancel()
	for {
		found, err := list()
		switch {
		case err == nil:
			return found, nil
		case !errors.Is(err, netlink.ErrDumpInterrupted):
			return nil, fmt.Errorf("list %s: %w", what, err)
		}
		if pause(ctx, dumpPause); ctx.Err() != nil {
			return nil, fmt.Errorf("list %s: %w: %w", what, ctx.Err(), err)
		}
	}
}

// listLinks lists the host's links.
func listLinks(ctx context.Context) ([]netlink.Link, error) {
	return dump(ctx, "links", netlink.LinkList)
}

// findLink is the link of that name, nil if there is none.
func findLink(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up link %s: %w", name, err)
	}
	return link, nil
}

// links makes, mends and removes links. step is called before each change.
type links struct {
	step func(name string)
	root string // where the host's /proc is, as its sandboxes
}

// ensureBridge makes the bridge, or brings one that is there to what it should be. One that carries somebody else's
// alias, or is no bridge, is an error. own is the name that weave gives by itself; name may be the user's choice.
func (l links) ensureBridge(name, own, alias string, mtu int) (netlink.Link, error) {
	link, err := findLink(name)
	if err != nil {
		return nil, err
	}
	if link == nil {
		if link, err = l.addBridge(name, own, alias); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", name, err)
		}
	} else if err := checkOurs(link, "bridge", alias); err != nil {
		return nil, err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := l.deafen(name); err != nil {
			return nil, fmt.Errorf("bridge %s: keep the host out: %w", name, err)
		}
	}
	if err := l.setUp(link, alias, mtu); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", name, err)
	}
	return link, nil
}

// addBridge makes a bridge. One that the user has named gets that name last: it never has it without the alias that tells
// it from a bridge of the user's own, whenever a crash comes.
func (l links) addBridge(name, own, alias string) (netlink.Link, error) {
	link, err := findLink(own) // a crash may have left it
	if err != nil {
		return nil, err
	}
	if link == nil {
		link = &netlink.Bridge{LinkAttrs: named(own)}
		l.step("add bridge")
		if err := netlink.LinkAdd(link); err != nil {
			return nil, err
		}
	} else if err := checkOurs(link, "bridge", alias); err != nil {
		return nil, err
	}
	if name == own {
		return link, nil
	}
	l.step("set alias")
	if err := netlink.LinkSetAlias(link, alias); err != nil {
		return nil, fmt.Errorf("set alias: %w", err)
	}
	l.step("name bridge")
	if err := netlink.LinkSetName(link, name); err != nil {
		return nil, fmt.Errorf("name it: %w", err)
	}
	return netlink.LinkByIndex(link.Attrs().Index)
}

// checkOurs refuses a link of another kind and one whose alias is for something else than want is. Only under a name of
// weave's may a link have none yet.
func checkOurs(link netlink.Link, kind, want string) error {
	a := link.Attrs()
	if link.Type() != kind {
		return fmt.Errorf("%w: link %s is a %s, not a %s: remove or rename it", ErrConflict, a.Name, link.Type(), kind)
	}
	if a.Alias == "" && ownName(a.Name) {
		return nil
	}
	if object(a.Alias) != object(want) {
		return fmt.Errorf("%w: link %s belongs to somebody else (alias %q): remove or rename it", ErrConflict, a.Name, a.Alias)
	}
	return nil
}

// object is what an alias of weave's says of the object that it is for, without the state: Docker's ids are unique, so a
// link that another state made for the same network or endpoint is the same one. Other aliases are returned as they are.
func object(alias string) string {
	if rest, ok := strings.CutPrefix(alias, aliasPrefix); ok {
		if _, object, ok := strings.Cut(rest, ":"); ok {
			return object
		}
	}
	return alias
}

// deaf are the settings by which the host itself takes nothing from a bridge: no router advertisement, no answer to ARP, no
// packet. Frames from port to port pass all the same.
var deaf = []struct{ path, value string }{
	{"/proc/sys/net/ipv6/conf/%s/accept_ra", "0"},
	{"/proc/sys/net/ipv6/conf/%s/disable_ipv6", "1"},
	{"/proc/sys/net/ipv4/conf/%s/arp_ignore", "8"},
	{"/proc/sys/net/ipv4/conf/%s/rp_filter", "1"}, // nothing that comes in here has a way back
}

// deafen keeps containers from the host: they could make it take addresses and a default route by a router
// advertisement, and reach its addresses. A host without IPv6 has no such settings and needs none. In a managed plugin
// /proc/sys is read-only; below root it has a /proc of its own.
func (l links) deafen(name string) error {
	for _, s := range deaf {
		path := filepath.Join("/", l.root, fmt.Sprintf(s.path, name))
		err := os.WriteFile(path, []byte(s.value), 0)
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && strings.Contains(s.path, "/ipv6/")) {
			return err
		}
	}
	return nil
}

// setUp gives a bridge or host end its alias and MTU and sets it up, without any address: with a link-local one
// every container could reach the host over it. The alias comes in a message of its own, since the kernel ignores one in
// the message that makes a link.
func (l links) setUp(link netlink.Link, alias string, mtu int) error {
	a := link.Attrs()
	if a.Alias != alias {
		l.step("set alias")
		if err := netlink.LinkSetAlias(link, alias); err != nil {
			return fmt.Errorf("set alias: %w", err)
		}
	}
	if a.MTU != mtu {
		l.step("set mtu")
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set mtu %d: %w", mtu, err)
		}
	}
	if a.Flags&net.FlagUp != 0 {
		return nil
	}
	l.step("turn link-local addresses off")
	// A host without IPv6 refuses the mode, and needs none.
	if err := netlink.LinkSetIP6AddrGenMode(link, addrGenNone); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("turn link-local addresses off: %w", err)
	}
	l.step("set up")
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}

// veth says what a pair is to be.
type veth struct {
	HostEnd      string
	ContainerEnd string
	Alias        string // the host end's
	MAC          string // the container end's
	MTU          int
	Bridge       netlink.Link
}

// makeVeth makes the pair, its host end a port of the bridge and up; when it fails there is no pair, but for one of the
// same name that was there before.
func (l links) makeVeth(v veth) error {
	mac, err := parseHardwareAddr(v.MAC)
	if err != nil {
		return err
	}
	attrs := named(v.HostEnd)
	attrs.MTU = v.MTU
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: v.ContainerEnd, PeerHardwareAddr: mac, PeerMTU: uint32(v.MTU)}
	l.step("add veth pair")
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("make veth pair %s, %s: %w", v.HostEnd, v.ContainerEnd, err)
	}
	if err := l.plugIn(link, v); err != nil {
		return errors.Join(err, l.remove(link))
	}
	return nil
}

// allGroups are the group addresses that bridges keep for themselves, 01:80:c2:00:00:00 to :0f, but for that of pause frames,
// which are dropped. A frame to one of them is the host's by default, as come from the port, which is not deaf: it has to
// be forwarded like any other (br_handle_frame in br_input.c).
const allGroups = 0xfffd

// plugIn makes a host end a port of its bridge and sets it up.
func (l links) plugIn(link netlink.Link, v veth) error {
	bridge := v.Bridge.Attrs()
	l.step("make it a bridge port")
	switch err := netlink.LinkSetMasterByIndex(link, bridge.Index); {
	case errors.Is(err, unix.EXFULL): // of a bridge that others use too
		return errFull(bridge.Name)
	case err != nil:
		return fmt.Errorf("make host end %s a port of %s: %w", v.HostEnd, bridge.Name, err)
	}
	l.step("forward all groups")
	if err := netlink.LinkSetBRSlaveGroupFwdMask(link, allGroups); err != nil {
		return fmt.Errorf("host end %s: forward frames to all groups: %w", v.HostEnd, err)
	}
	if err := l.setUp(link, v.Alias, v.MTU); err != nil {
		return fmt.Errorf("host end %s: %w", v.HostEnd, err)
	}
	return nil
}

func errFull(bridge string) error {
	return fmt.Errorf("%w: bridge %s has its %d ports in use: remove containers from the network or make another one", ErrFull, bridge, maxPorts)
}

// deleteNamed removes the link of that name if it is weave's, see checkOurs; one of somebody else's stays, and it is no
// error that there is none. Removing either end of a veth pair removes both, and waits for the kernel's grace period, some
// 15 ms.
func (l links) deleteNamed(name, kind, alias string) error {
	link, err := findLink(name)
	if err != nil || link == nil || checkOurs(link, kind, alias) != nil {
		return err
	}
	return l.remove(link)
}

func (l links) remove(link netlink.Link) error {
	l.step("delete link")
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete link %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// carrier reports whether a link has its carrier: for a host end, that the container end is up.
func carrier(link netlink.Link) bool { return link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 }
