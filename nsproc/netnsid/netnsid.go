// Package netnsid looks into a sandbox without going in: the kernel answers for another network namespace by its id
// (Linux 5.0). It runs in the host's namespace and needs CAP_NET_ADMIN, not CAP_SYS_ADMIN.
package netnsid

import (
	"context"
	"errors"
	"fmt"

	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/rtnl"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

// ErrUnsupported means that the kernel refuses to answer for other namespaces: ask nsproc.
var ErrUnsupported = errors.New("the kernel does not tell about other namespaces here")

// connections is how many sandboxes are asked about at the same time.
const connections = 4

// Querier asks the kernel about sandboxes. Several goroutines may use it at once.
type Querier struct {
	root  sandbox.Root
	conns chan *rtnl.Conn // those not in use; nil stands for one that is to be opened anew
}

// New returns a Querier for the namespace that it is called in, for sandboxes under root.
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

// Close waits for the queries under way and ends the Querier; it must not be used afterwards.
func (q *Querier) Close() error {
	var errs []error
	for range connections {
		if conn := <-q.conns; conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}

// List lists the links and addresses in the sandbox at path, Docker's SandboxKey. Errors wrap sandbox.ErrGone or
// sandbox.ErrNotVisible if it can't be opened, ErrUnsupported if the kernel refuses, and rtnl.ErrInterrupted if the
// sandbox kept changing.
func (q *Querier) List(ctx context.Context, path string) (*netstate.Snapshot, error) {
	file, err := q.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	links, err := q.ask(ctx, func(conn *rtnl.Conn) ([]netstate.Link, error) {
		id, err := conn.NamespaceID(int(file.Fd()))
		if err != nil {
			return nil, err
		}
		return conn.Links(id)
	})
	if errors.Is(err, rtnl.ErrRefused) || errors.Is(err, rtnl.ErrNoTarget) {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("look into sandbox %s: %w", path, err)
	}
	return &netstate.Snapshot{Links: links}, nil
}

// Host lists the links of the Querier's own namespace, without their addresses. The error wraps rtnl.ErrInterrupted if
// they kept changing, as on a host with many links of which some come and go.
func (q *Querier) Host(ctx context.Context) (*netstate.Snapshot, error) {
	links, err := q.ask(ctx, func(conn *rtnl.Conn) ([]netstate.Link, error) { return conn.BareLinks(rtnl.Here) })
	if err != nil {
		return nil, fmt.Errorf("look at the host: %w", err)
	}
	return &netstate.Snapshot{Links: links}, nil
}

// ask runs query with a connection that no one else uses meanwhile.
func (q *Querier) ask(ctx context.Context, query func(*rtnl.Conn) ([]netstate.Link, error)) ([]netstate.Link, error) {
	conn, err := q.take(ctx)
	if err != nil {
		return nil, err
	}
	links, err := query(conn)
	if err != nil {
		conn.Close() // it may be out of step
		conn = nil
	}
	q.conns <- conn
	return links, err
}

// take waits for a connection that is not in use.
func (q *Querier) take(ctx context.Context) (*rtnl.Conn, error) {
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
