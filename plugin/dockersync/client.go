// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weaveplugin/weave/api"
)

// Docker's own Go client is not used because it decodes addresses strictly: Docker before 28.0 gives the gateway of an
// IPv6 network as "fd00::1/64", and one such network, of whatever driver, makes that client refuse the whole list. Only
// a few GETs are needed here, and of their answers few fields.

const (
	callDeadline = 5 * time.Second // of a request; Docker answers some only after calls to plugins that are under way
	maxAnswer    = 64 << 20        // bytes
	minMinor     = 40              // of API version 1: Docker 19.03
	maxMinor     = 51              // the newest whose answers were looked at: Docker 28.5
)

// errGone is the error of a request for what does not exist.
var errGone = errors.New("it does not exist")

// client is a client of Docker's API.
type client struct {
	http *http.Client
}

func newClient(socket string) client {
	transport := api.UnixTransport(socket)
	transport.MaxIdleConns = 2
	transport.IdleConnTimeout = time.Minute
	transport.ResponseHeaderTimeout = callDeadline // Docker sends the header of the events at once
	return client{&http.Client{Transport: transport}}
}

func (c client) close() { c.http.CloseIdleConnections() }

// session is a client that has agreed with Docker upon a version of the API.
type session struct {
	http   *http.Client
	prefix string // of paths: "/v1.41"
}

// connect agrees with Docker upon a version of the API.
func (c client) connect(ctx context.Context) (session, error) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	resp, err := do(ctx, c.http, "/_ping", nil)
	if err != nil {
		return session{}, err
	}
	resp.Body.Close()
	minor, err := agree(resp.Header.Get("Api-Version"))
	return session{c.http, "/v1." + strconv.Itoa(minor)}, err
}

// agree returns the minor number of the API version to use with a Docker whose newest is version.
func agree(version string) (int, error) {
	major, rest, _ := strings.Cut(version, ".")
	minor, err := strconv.ParseUint(rest, 10, 16)
	if err != nil || major != "1" || minor < minMinor {
		return 0, fmt.Errorf("docker's API is of version %.20q: want 1.%d or newer", version, minMinor)
	}
	return int(min(minor, maxMinor)), nil
}

// get decodes the answer to a GET of path into v. The error is errGone if Docker answers that it does not exist.
func (s session) get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	resp, err := do(ctx, s.http, s.prefix+path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("get %s of docker's API: %w", path, err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("get %s of docker's API: answer is longer than %d MiB", path, maxAnswer>>20)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("get %s of docker's API: %w", path, err)
	}
	return nil
}

// events opens the stream of events; it ends with ctx.
func (s session) events(ctx context.Context) (io.ReadCloser, error) {
	resp, err := do(ctx, s.http, s.prefix+"/events", eventFilter)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// do sends a GET and returns the answer if its status is 200.
func do(ctx context.Context, client *http.Client, path string, query url.Values) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "docker", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("get %s of docker's API: %w", path, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // without the URL, whose host is made up
		}
		return nil, fmt.Errorf("get %s of docker's API: %w", path, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp, nil
	case http.StatusNotFound:
		err = errGone
	default:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // the status alone is reason enough
		err = fmt.Errorf("status %d: %q", resp.StatusCode, text)
	}
	resp.Body.Close()
	return nil, fmt.Errorf("get %s of docker's API: %w", path, err)
}

// readNames reads all names. PluginID is the id of the managed plugin that weave is, or empty.
func (s session) readNames(ctx context.Context, pluginID string) (*names, error) {
	var networks []struct {
		ID   string `json:"Id"`
		Name string
	}
	if err := s.get(ctx, "/networks", &networks); err != nil {
		return nil, err
	}
	var containers []struct { // running and paused ones: no other has endpoints
		ID              string `json:"Id"`
		Names           []string
		NetworkSettings struct {
			Networks map[string]struct{ EndpointID, NetworkID string }
		}
	}
	if err := s.get(ctx, "/containers/json", &containers); err != nil {
		return nil, err
	}
	plugin, plugins, err := s.pluginNames(ctx, pluginID)
	if err != nil {
		return nil, err
	}
	n := &names{
		plugin: plugin, plugins: plugins,
		networks:   make(map[string]string, len(networks)),
		containers: make(map[string]container, len(containers)),
	}
	for _, network := range networks {
		n.networks[network.ID] = network.Name
	}
	for _, c := range containers {
		for _, e := range c.NetworkSettings.Networks {
			if e.EndpointID != "" {
				n.containers[e.EndpointID] = container{id: c.ID, name: ownName(c.Names), network: e.NetworkID}
			}
		}
	}
	return n, nil
}

// readAliases adds the aliases of the endpoints on networks where they are wanted. An endpoint keeps its aliases as
// long as its container keeps its name; those that were read before are taken from there.
func (s session) readAliases(ctx context.Context, n, before *names, wanted func(network string) bool) error {
	for endpoint, c := range n.containers {
		if !wanted(c.network) {
			continue
		}
		if old := before.containers[endpoint]; old.name == c.name && old.aliases != nil {
			c.aliases = old.aliases
		} else {
			var err error
			if c.aliases, err = s.aliases(ctx, c.id, endpoint); err != nil {
				return err
			}
		}
		n.containers[endpoint] = c
	}
	return nil
}

// aliases returns the names of one endpoint besides its container's own; not nil, unless the container is gone.
func (s session) aliases(ctx context.Context, id, endpoint string) ([]string, error) {
	var c wireContainer
	if err := s.get(ctx, "/containers/"+url.PathEscape(id)+"/json", &c); err != nil {
		if errors.Is(err, errGone) {
			err = nil
		}
		return nil, err
	}
	for _, attached := range c.NetworkSettings.Networks {
		if attached.EndpointID == endpoint {
			return slices.Concat([]string{}, attached.Aliases, attached.DNSNames), nil
		}
	}
	return nil, nil
}

// pluginNames returns the full name of the managed plugin of this id, empty if there is none, and those of all managed
// plugins, including disabled ones.
func (s session) pluginNames(ctx context.Context, id string) (own string, all []string, err error) {
	var plugins []struct {
		ID   string `json:"Id"`
		Name string
	}
	if err := s.get(ctx, "/plugins", &plugins); err != nil {
		if id == "" {
			err = nil // only a warning depends on it
		}
		return "", nil, err
	}
	for _, p := range plugins {
		all = append(all, p.Name)
		if p.ID == id && id != "" {
			own = p.Name
		}
	}
	return own, all, nil
}

// ownName returns a container's own name out of all of its names in Docker's API: names through a link of another
// container have a second slash ("/web", "/proxy/web").
func ownName(names []string) string {
	for _, n := range names {
		if n, ok := strings.CutPrefix(n, "/"); ok && !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}
