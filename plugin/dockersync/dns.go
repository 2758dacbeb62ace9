// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"net/netip"
	"net/url"

	"github.com/weaveplugin/weave/api"
)

// dockersResolver is where containers ask on networks that are not Docker's default one.
var dockersResolver = netip.MustParseAddr("127.0.0.11")

// DNS returns where a container's questions for names go, as Docker's API has it.
func (w *Watcher) DNS(ctx context.Context, id string) (*api.DNS, error) {
	s, err := w.client.connect(ctx)
	if err != nil {
		return nil, err
	}
	var c struct {
		HostConfig struct{ DNS, DNSSearch, DNSOptions []string }
	}
	if err := s.get(ctx, "/containers/"+url.PathEscape(id)+"/json", &c); err != nil {
		return nil, err
	}
	orEmpty := func(list []string) []string { return append([]string{}, list...) }
	return &api.DNS{
		Resolver: dockersResolver, Servers: orEmpty(c.HostConfig.DNS), Search: orEmpty(c.HostConfig.DNSSearch),
		Options: orEmpty(c.HostConfig.DNSOptions),
	}, nil
}
