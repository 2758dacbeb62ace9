// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	made *indexes // of links that were as weave makes them
}

// checkOurs returns ErrConflict for a link of another kind, and for one whose alias says that it is for something else.
// Only a link with a name that weave gives by itself may have no alias yet: a crash can come before the alias is set.
// A link with the index made, if that is not 0, is weave's: somebody has changed its alias.
func checkOurs(link netlink.Link, kind string, want alias, made int) error {
	a := link.Attrs()
	if link.Type() != kind {
		return fmt.Errorf("%w: link %s is a %s, not a %s: remove or rename it", ErrConflict, a.Name, link.Type(), kind)
	}
	if a.Alias == "" && isOwnName(a.Name) || a.Index == made {
		return nil
	}
	if got, ok := parseAlias(a.Alias); !ok || !got.sameSubject(want) {
		return fmt.Errorf("%w: link %s belongs to somebody else (alias %q): remove or rename it",
			ErrConflict, a.Name, a.Alias)
	}
	return nil
}

// findOwn returns the link that is to be as wanted, also if somebody has renamed it, or nil. It is ErrConflict if the
// link of that name is not weave's.
func (l links) findOwn(want wanted) (*hostLink, error) {
	made := l.made.of(want.name)
	link, err := findHostLink(want.name)
	if err == nil && link == nil && made != 0 {
		link, err = findHostLinkAt(made)
	}
	switch {
	case err != nil || link == nil:
		return nil, err
	case link.Attrs().Name != want.name && link.Attrs().Alias != want.alias.String():
		return nil, nil // another link has the index
	}
	return link, checkOurs(link, want.kind, want.alias, made)
}

// onBridge returns what is wanted of a port with its bridge, if that is there.
func (w wanted) onBridge(name string) (wanted, error) {
	bridge, err := findHostLink(name)
	if isBridge(bridge) {
		w.bridge = bridge
	}
	return w, err
}

// removeOurs removes the link of that name if checkOurs says that it is weave's. Somebody else's link stays, and a
// name that no link has is no error. Removing one end of a veth pair removes both, and waits some 15 ms for the
// kernel's grace period.
func (l links) removeOurs(name, kind string, alias alias) error {
	made := l.made.of(name)
	link, err := findLink(name)
	switch {
	case err != nil:
		return err
	case link == nil || checkOurs(link, kind, alias, made) != nil:
		l.made.forget(name)
		return nil
	}
	return l.remove(link)
}

// remove removes a link; one that is gone already is no error.
func (l links) remove(link netlink.Link) error {
	l.step("delete link")
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete link %s: %w", link.Attrs().Name, err)
	}
	l.made.forget(link.Attrs().Name)
	return nil
}

// indexes has the indexes of links that were as weave makes them, by name. So weave knows its own when somebody changes
// the alias or the name. It may be used by several goroutines.
type indexes struct {
	mu     sync.Mutex
	byName map[string]int
}

// of returns the index that the link of that name had, 0 if that is not known.
func (x *indexes) of(name string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.byName[name]
}

func (x *indexes) note(name string, index int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byName[name] = index
}

func (x *indexes) forget(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byName, name)
}
