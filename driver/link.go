// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/internal/wait"
)

// On a busy host the kernel may say that a dump changed while it was read. The dump is then repeated after dumpPause,
// for dumpTime at most.
const (
	dumpTime  = 5 * time.Second
	dumpPause = 10 * time.Millisecond
)

// dump runs list until a listing was not interrupted. An incomplete listing is an error, since nothing must be deleted
// because it is missing from one.
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
		if !wait.For(ctx, dumpPause) {
			return nil, fmt.Errorf("list %s: %w: %w", what, ctx.Err(), err)
		}
	}
}

// listLinks lists the host's links.
func listLinks(ctx context.Context) ([]netlink.Link, error) {
	return dump(ctx, "links", netlink.LinkList)
}

// findLink returns the link of that name, nil if there is none.
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

// hasCarrier reports whether a link has its carrier. A host end has it while the container end is up.
func hasCarrier(link netlink.Link) bool { return link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 }

// linkNamed returns the attributes of a new link of that name.
func linkNamed(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// links makes, repairs and removes links.
type links struct {
	step func(name string) // called before each change of the kernel
	root string            // root directory of the host, for its /proc
	tc   *tc.Programs
}

// checkOurs returns ErrConflict for a link of another kind, and for one whose alias says that it is for something else.
// Only a link with a name that weave gives by itself may have no alias yet: a crash can come before the alias is set.
func checkOurs(link netlink.Link, kind string, want alias) error {
	a := link.Attrs()
	if link.Type() != kind {
		return fmt.Errorf("%w: link %s is a %s, not a %s: remove or rename it", ErrConflict, a.Name, link.Type(), kind)
	}
	if a.Alias == "" && isOwnName(a.Name) {
		return nil
	}
	if got, ok := parseAlias(a.Alias); !ok || !got.sameSubject(want) {
		return fmt.Errorf("%w: link %s belongs to somebody else (alias %q): remove or rename it",
			ErrConflict, a.Name, a.Alias)
	}
	return nil
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h: the link gets no link-local address by itself.
const addrGenNone = 1

// setUp gives a bridge or a host end its alias and MTU, and sets it up without any address: over a link-local one every
// container could reach the host. The alias has a message of its own, since the kernel ignores an alias in the message
// that makes a link.
func (l links) setUp(link netlink.Link, alias alias, mtu int) error {
	a := link.Attrs()
	if a.Alias != alias.String() {
		l.step("set alias")
		if err := netlink.LinkSetAlias(link, alias.String()); err != nil {
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
	err := netlink.LinkSetIP6AddrGenMode(link, addrGenNone)
	// A host without IPv6 refuses the mode, and needs none.
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("turn link-local addresses off: %w", err)
	}
	l.step("set up")
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}

// removeOurs removes the link of that name if checkOurs says that it is weave's. Somebody else's link stays, and a
// name that no link has is no error. Removing one end of a veth pair removes both, and waits some 15 ms for the
// kernel's grace period.
func (l links) removeOurs(name, kind string, alias alias) error {
	link, err := findLink(name)
	if err != nil || link == nil || checkOurs(link, kind, alias) != nil {
		return err
	}
	return l.remove(link)
}

// remove removes a link; one that is gone already is no error.
func (l links) remove(link netlink.Link) error {
	l.step("delete link")
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete link %s: %w", link.Attrs().Name, err)
	}
	return nil
}
