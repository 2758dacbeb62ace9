// SPDX-License-Identifier: Apache-2.0

// Package netnsid lists what is in a sandbox without a process inside: since Linux 5.0 the kernel lists another network
// namespace by its id. The package runs in the host's namespace and needs CAP_NET_ADMIN, not CAP_SYS_ADMIN.
package netnsid

import (
	"context"
	"errors"
	"fmt"

	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/rtnl"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

// ErrUnsupported means that this kernel does not list other namespaces, or that the plugin lacks the capability. nsproc
// lists them as well.
var ErrUnsupported = errors.New("the kernel does not list other namespaces here")

// connections is how many sandboxes are listed at the same time.
const connections = 4

// Querier lists sandboxes. Several goroutines may use it at once.
type Querier struct {
	root  sandbox.Root
	conns chan *rtnl.Conn // those not in use; nil in place of one that was closed after an error
}

// New returns a Querier with connections in the calling thread's namespace. It opens sandboxes under root.
func New(root sandbox.Root) (*Querier, error) {
	q := &Querier{root: root, conns: make(chan *rtnl.Conn, connections)}
	for range connections {
		conn, err := rtnl.Dial()
		if err != nil {
			for len(q.conns) > 0 {
				(<-q.conns).Close()
			}
			return nil, err
		}
		q.conns <- conn
	}
	return q, nil
}

// Close waits for running queries and closes the connections. The Querier must not be used afterwards.
func (q *Querier) Close() error {
	var errs []error
	for range connections {
		if conn := <-q.conns; conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}

// List returns the links and addresses in the sandbox at path, Docker's SandboxKey. The error wraps sandbox.ErrGone or
// sandbox.ErrNotVisible if the sandbox can't be opened, ErrUnsupported if the kernel does not list it, and
// rtnl.ErrInterrupted if it kept changing.
func (q *Querier) List(ctx context.Context, path string) (*netstate.Snapshot, error) {
	file, err := q.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	found, err := q.list(ctx, func(conn *rtnl.Conn) (int, error) { return conn.NamespaceID(int(file.Fd())) })
	if err != nil {
		return nil, fmt.Errorf("list sandbox %s: %w", path, err)
	}
	return found, nil
}

// ListID returns the links and addresses in the namespace that the host's has this id for, such as the one that a veth
// pair's other end is in (IFLA_LINK_NETNSID). Errors are as in List.
func (q *Querier) ListID(ctx context.Context, id int) (*netstate.Snapshot, error) {
	found, err := q.list(ctx, func(*rtnl.Conn) (int, error) { return id, nil })
	if err != nil {
		return nil, fmt.Errorf("list the namespace of id %d: %w", id, err)
	}
	return found, nil
}

// list lists the namespace that has the id which identify returns.
func (q *Querier) list(ctx context.Context, identify func(*rtnl.Conn) (int, error)) (*netstate.Snapshot, error) {
	links, err := q.query(ctx, func(conn *rtnl.Conn) ([]netstate.Link, error) {
		id, err := identify(conn)
		if err != nil {
			return nil, err
		}
		return conn.Links(id)
	})
	if errors.Is(err, rtnl.ErrRefused) || errors.Is(err, rtnl.ErrNoTarget) {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err != nil {
		return nil, err
	}
	return &netstate.Snapshot{Links: links}, nil
}

// Host returns the links of the Querier's own namespace, without their addresses. The error wraps rtnl.ErrInterrupted
// if they kept changing, as on a host that starts and stops many containers.
func (q *Querier) Host(ctx context.Context) (*netstate.Snapshot, error) {
	links, err := q.query(ctx, func(conn *rtnl.Conn) ([]netstate.Link, error) { return conn.BareLinks(rtnl.Here) })
	if err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	return &netstate.Snapshot{Links: links}, nil
}

// query calls list with a connection that nobody else uses at the same time.
func (q *Querier) query(
	ctx context.Context, list func(*rtnl.Conn) ([]netstate.Link, error),
) ([]netstate.Link, error) {
	conn, err := q.connection(ctx)
	if err != nil {
		return nil, err
	}
	links, err := list(conn)
	if err != nil {
		conn.Close() // the rest of an answer may still be in its buffer
		conn = nil
	}
	q.conns <- conn
	return links, err
}

// connection waits for a connection that is not in use. It has to be put back into q.conns.
func (q *Querier) connection(ctx context.Context) (*rtnl.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case conn := <-q.conns:
		if conn != nil {
			return conn, nil
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := rtnl.Dial()
	if err != nil {
		q.conns <- nil
	}
	return conn, err
}
