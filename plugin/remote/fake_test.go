package remote

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
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

func (f *fakeBackend) EngineStarted() {}

func (f *fakeBackend) CreateNetwork(ctx context.Context, _ *network.CreateNetworkRequest) error {
	return f.called(ctx, "NetworkDriver.CreateNetwork")
}

func (f *fakeBackend) DeleteNetwork(ctx context.Context, _ *network.DeleteNetworkRequest) error {
	return f.called(ctx, "NetworkDriver.DeleteNetwork")
}

func (f *fakeBackend) CreateEndpoint(ctx context.Context, req *network.CreateEndpointRequest) (
	*network.CreateEndpointResponse, error,
) {
	resp := &network.CreateEndpointResponse{Interface: &network.EndpointInterface{}}
	if req.Interface == nil || req.Interface.MacAddress == "" {
		resp.Interface.MacAddress = "02:00:5e:00:53:01"
	}
	return resp, f.called(ctx, "NetworkDriver.CreateEndpoint")
}

func (f *fakeBackend) DeleteEndpoint(ctx context.Context, _ *network.DeleteEndpointRequest) error {
	return f.called(ctx, "NetworkDriver.DeleteEndpoint")
}

func (f *fakeBackend) Join(ctx context.Context, req *network.JoinRequest) (*network.JoinResponse, error) {
	return &network.JoinResponse{
		InterfaceName: network.InterfaceName{SrcName: "wvc-" + req.EndpointID[:11], DstPrefix: "eth"},
	}, f.called(ctx, "NetworkDriver.Join")
}

func (f *fakeBackend) Leave(ctx context.Context, _ *network.LeaveRequest) error {
	return f.called(ctx, "NetworkDriver.Leave")
}

func (f *fakeBackend) RequestPool(ctx context.Context, req *ipam.RequestPoolRequest) (
	*ipam.RequestPoolResponse, error,
) {
	pool := req.Pool
	if pool == "" {
		pool = "10.32.0.0/22"
	}
	resp := &ipam.RequestPoolResponse{PoolID: req.AddressSpace + "/" + pool, Pool: pool}
	return resp, f.called(ctx, "IpamDriver.RequestPool")
}

func (f *fakeBackend) ReleasePool(ctx context.Context, _ *ipam.ReleasePoolRequest) error {
	return f.called(ctx, "IpamDriver.ReleasePool")
}

func (f *fakeBackend) RequestAddress(ctx context.Context, _ *ipam.RequestAddressRequest) (
	*ipam.RequestAddressResponse, error,
) {
	return &ipam.RequestAddressResponse{Address: "10.32.0.1/22"}, f.called(ctx, "IpamDriver.RequestAddress")
}

func (f *fakeBackend) ReleaseAddress(ctx context.Context, _ *ipam.ReleaseAddressRequest) error {
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
