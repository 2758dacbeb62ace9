// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

const (
	clientTimeout = RequestTimeout + 5*time.Second // so that it is the server that says what took too long
	maxAnswer     = 64 << 20                       // bytes; the endpoints of a full bridge take less than 1 MiB
)

// Client is a client of weave's API. Its methods may be called from several goroutines at once; each returns when its
// context ends, or, but for Events, Capture, CheckAll and Report, after 35 seconds. Their errors say what to do next; a
// refusal by the server is an *Error.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a Client of the weave that listens at the path socket, which usually is DefaultSocket. It does not
// connect yet.
func NewClient(socket string) *Client {
	transport := UnixTransport(socket)
	transport.DisableKeepAlives = true
	return &Client{socket: socket, http: http.Client{Transport: transport}}
}

// UnixTransport returns a transport for HTTP over the Unix socket at the path socket, whatever the host in a URL is.
// Client uses one; a program that needs other requests than Client has can make its own http.Client with it.
func UnixTransport(socket string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
}

// Networks lists the networks by name.
func (c *Client) Networks(ctx context.Context) ([]Network, error) {
	return get[[]Network](ctx, c, PathNetworks, nil)
}

// Endpoints lists the endpoints that q selects, by network and address.
func (c *Client) Endpoints(ctx context.Context, q Query) ([]Endpoint, error) {
	return get[[]Endpoint](ctx, c, PathEndpoints, q.Values())
}

// Pools lists the subnets of weave's IPAM, with who holds what, by network and subnet. Where etcd has to be asked it
// takes 3 seconds at most.
func (c *Client) Pools(ctx context.Context) ([]Pool, error) {
	return get[[]Pool](ctx, c, PathPools, nil)
}

// Hosts lists the hosts of the cluster by name; there are none where weave is in no cluster.
func (c *Client) Hosts(ctx context.Context) ([]Host, error) {
	return get[[]Host](ctx, c, PathHosts, nil)
}

// Forget removes a host that is gone for good from the cluster, by its name, its id or the beginning of its id, and
// returns it. Only root can do that. A host that is there is refused.
func (c *Client) Forget(ctx context.Context, host string) (Host, error) {
	return request[Host](ctx, c, http.MethodDelete, below(PathHosts, host, ""))
}

// Inspect returns everything about an endpoint of this host: by its id, the beginning of its id, or its container's id
// or name, if the container is on one network only.
func (c *Client) Inspect(ctx context.Context, endpoint string) (Inspection, error) {
	return request[Inspection](ctx, c, http.MethodGet, below(PathEndpoints, endpoint, ""))
}

// RunNsproc has nsproc execute NsprocList or NsprocConfigure in the sandbox of an endpoint, named as for Inspect. Trace
// says whether the answer has what nsproc and the kernel said to each other. Only root can do that.
func (c *Client) RunNsproc(ctx context.Context, endpoint, requested string, trace bool) (NsprocRun, error) {
	parameters := url.Values{ParamRequest: {requested}}
	if trace {
		parameters.Set(ParamTrace, "1")
	}
	u := below(PathEndpoints, endpoint, "/nsproc")
	u.RawQuery = parameters.Encode()
	return request[NsprocRun](ctx, c, http.MethodPost, u)
}

// Cluster returns how weave is in its cluster, from memory alone, which Status is not; nil: it is in none, as one of a
// version that knew no clusters is, until it is restarted after an upgrade.
func (c *Client) Cluster(ctx context.Context) (*Cluster, error) {
	found, err := get[*Cluster](ctx, c, PathCluster, nil)
	if refusal, ok := errors.AsType[*Error](err); ok && refusal.Code == http.StatusNotFound {
		return nil, nil
	}
	return found, err
}

// Status returns how weave itself is doing.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, PathStatus, nil)
}

// below returns the URL of what a user has named below a path. A slash in the name does not lead elsewhere.
func below(path, name, rest string) url.URL {
	return url.URL{Path: path + "/" + name + rest, RawPath: path + "/" + url.PathEscape(name) + rest}
}

// get requests path with the parameters and decodes the answer.
func get[T any](ctx context.Context, c *Client, path string, parameters url.Values) (T, error) {
	return request[T](ctx, c, http.MethodGet, url.URL{Path: path, RawQuery: parameters.Encode()})
}

// request sends a request for the path and the parameters of u, and decodes the answer.
func request[T any](ctx context.Context, c *Client, method string, u url.URL) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	var v T
	u.Scheme, u.Host = "http", "weave"
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return v, fmt.Errorf("request %s: %w", u.Path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return v, c.explain(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return v, c.explain(err)
	}
	if len(body) > maxAnswer {
		return v, fmt.Errorf("answer from %s is longer than %d MiB: is that weave's socket?", c.socket, maxAnswer>>20)
	}
	err = c.decode(resp.StatusCode, body, &v)
	return v, err
}

// decode is like the function decode, but where the answer is not one of weave's the error says what that may mean.
func (c *Client) decode(code int, body []byte, v any) error {
	err := decode(code, body, v)
	if _, refused := errors.AsType[*Error](err); err == nil || refused {
		return err
	}
	return fmt.Errorf("answer from %s is not one of weave's (%w): is that weave's socket, and of the same version?",
		c.socket, err)
}

// decode decodes the body of an answer with the status code into v. It returns the server's refusal as an *Error.
func decode(code int, body []byte, v any) error {
	if code == http.StatusOK {
		return json.Unmarshal(body, v)
	}
	refusal := &Error{Code: code}
	if err := json.Unmarshal(body, refusal); err != nil {
		return fmt.Errorf("status %d: %w", code, err)
	}
	if refusal.Message == "" {
		return fmt.Errorf("status %d without a reason", code)
	}
	return refusal
}

// explain returns err, a failure to reach weave, with what it means and what to do next.
func (c *Client) explain(err error) error {
	what := "weave's socket %s: %w; see weave's log"
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrNotExist):
		what = "weave is not running, or its socket is elsewhere: there is no %s (%w): " +
			"look with `docker plugin ls` or `systemctl status weave`, or name the socket with --socket or WEAVE_SOCKET"
	case errors.Is(err, fs.ErrPermission):
		what = "weave's socket %s is not for you (%w): run this as root, for example with sudo"
	case errors.Is(err, syscall.ECONNREFUSED):
		what = "weave is not running: nobody listens at %s (%w): " +
			"start it with `docker plugin enable` or `systemctl start weave`"
	case errors.As(err, &timeout) && timeout.Timeout():
		what = "weave does not answer at %s (%w): " +
			"it is busy or stuck; look into its log, in Docker's with `journalctl -u docker`"
	}
	return fmt.Errorf(what, c.socket, cause(err))
}

// cause returns err without what http.Client and net put before it: the request's URL and the socket's path, which
// explain gives in a better form.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return err
}
