// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"

	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/ipam"
)

// fakeBackend answers as driver and IPAM do, and counts the calls. The hook, if any, is called for each.
type fakeBackend struct {
	mu    sync.Mutex
	calls map[string]int
	hook  func(ctx context.Context, call string) error
}

func (f *fakeBackend) called(ctx context.Context, call string) error {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[call]++
	f.mu.Unlock()
	if f.hook != nil {
		return f.hook(ctx, call)
	}
	return nil
}

func (f *fakeBackend) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		n += c
	}
	return n
}

func (f *fakeBackend) DockerStarted() {}

func (f *fakeBackend) CreateNetwork(ctx context.Context, spec driver.NetworkSpec) error {
	if spec.Refused != nil {
		return spec.Refused
	}
	if spec.Cluster != "" { // as on a host that is in none
		return errors.New("option works.weave.network: this host is in no cluster")
	}
	return f.called(ctx, "NetworkDriver.CreateNetwork")
}

func (f *fakeBackend) DeleteNetwork(ctx context.Context, _ driver.NetworkID) error {
	return f.called(ctx, "NetworkDriver.DeleteNetwork")
}

func (f *fakeBackend) CreateEndpoint(ctx context.Context, spec driver.EndpointSpec) (driver.Endpoint, error) {
	ep := driver.Endpoint{ID: spec.ID, Network: spec.Network, MAC: spec.MAC, Addresses: spec.Addresses}
	if ep.MAC.IsZero() {
		ep.MAC = mac.MustParse("02:00:5e:00:53:01")
	}
	return ep, f.called(ctx, "NetworkDriver.CreateEndpoint")
}

func (f *fakeBackend) DeleteEndpoint(ctx context.Context, _ driver.NetworkID, _ driver.EndpointID) error {
	return f.called(ctx, "NetworkDriver.DeleteEndpoint")
}

func (f *fakeBackend) Join(ctx context.Context, _ driver.NetworkID, id driver.EndpointID, _ string, _ driver.Ports) (
	driver.Attachment, error,
) {
	return driver.Attachment{Link: "wvc-" + string(id[:11]), Prefix: "eth"}, f.called(ctx, "NetworkDriver.Join")
}

func (f *fakeBackend) Leave(ctx context.Context, _ driver.NetworkID, _ driver.EndpointID) error {
	return f.called(ctx, "NetworkDriver.Leave")
}

func (f *fakeBackend) SetExternal(
	ctx context.Context, _ driver.NetworkID, _ driver.EndpointID, external bool,
) error {
	if external {
		return f.called(ctx, "NetworkDriver.ProgramExternalConnectivity")
	}
	return f.called(ctx, "NetworkDriver.RevokeExternalConnectivity")
}

func (f *fakeBackend) RequestPool(ctx context.Context, req ipam.PoolRequest) (ipam.Pool, error) {
	subnet := req.Subnet
	if !subnet.IsValid() {
		subnet = netip.MustParsePrefix("10.32.0.0/22")
	}
	pool := ipam.Pool{ID: ipam.PoolID(req.Space + "/" + subnet.String()), Subnet: subnet}
	return pool, f.called(ctx, "IpamDriver.RequestPool")
}

func (f *fakeBackend) ReleasePool(ctx context.Context, _ ipam.PoolID) error {
	return f.called(ctx, "IpamDriver.ReleasePool")
}

func (f *fakeBackend) RequestAddressFor(ctx context.Context, _ ipam.PoolID, _ netip.Addr, _ string) (
	netip.Prefix, error,
) {
	return netip.MustParsePrefix("10.32.0.1/22"), f.called(ctx, "IpamDriver.RequestAddress")
}

func (f *fakeBackend) RequestGateway(ctx context.Context, id ipam.PoolID, a netip.Addr) (netip.Prefix, error) {
	return f.RequestAddressFor(ctx, id, a, "")
}

func (f *fakeBackend) Share(_ context.Context, _ string, _ netip.Prefix, network string) (string, error) {
	return network, nil
}

func (f *fakeBackend) ReleaseAddress(ctx context.Context, _ ipam.PoolID, _ netip.Addr) error {
	return f.called(ctx, "IpamDriver.ReleaseAddress")
}

// newHandler returns the handler of all calls, with b doing their work.
func newHandler(b *fakeBackend) http.Handler {
	h, _ := newLoggedHandler(b)
	return h
}

func newLoggedHandler(b *fakeBackend) (http.Handler, *logrustest.Hook) {
	log, hook := logrustest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	return New(Options{Networks: b, Pools: b, Scope: "local", Log: logrus.NewEntry(log)}), hook
}

// quiet returns a log that nobody reads.
func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}
