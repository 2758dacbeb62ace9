package main

import (
	"context"
	"net/http"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/ipam"
)

// networkDriver is what the Engine's network calls need.
type networkDriver interface {
	CreateNetwork(context.Context, *network.CreateNetworkRequest) error
	DeleteNetwork(context.Context, *network.DeleteNetworkRequest) error
	CreateEndpoint(context.Context, *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error)
	DeleteEndpoint(context.Context, *network.DeleteEndpointRequest) error
	Join(context.Context, *network.JoinRequest) (*network.JoinResponse, error)
	Leave(context.Context, *network.LeaveRequest) error
	EngineStarted()
}

// ipamDriver is what the Engine's IPAM calls need.
type ipamDriver interface {
	RequestPool(context.Context, *dockeripam.RequestPoolRequest) (*dockeripam.RequestPoolResponse, error)
	ReleasePool(context.Context, *dockeripam.ReleasePoolRequest) error
	RequestAddress(context.Context, *dockeripam.RequestAddressRequest) (*dockeripam.RequestAddressResponse, error)
	ReleaseAddress(context.Context, *dockeripam.ReleaseAddressRequest) error
}

// backend does the work behind the Engine's calls.
type backend interface {
	networkDriver
	ipamDriver
}

// socket answers the Engine on the plugin socket.
type socket struct {
	mux *http.ServeMux
	log *logrus.Entry
}

// capabilities are those of a network driver; go-plugins-helpers lacks the last, which Engines know from 28 on.
type capabilities struct {
	network.CapabilitiesResponse
	GwAllocChecker bool
}

// gwAllocCheckRequest asks, before a network is made, whether it needs gateway addresses (Engine 28 and later).
type gwAllocCheckRequest struct {
	Options map[string]any
}

type gwAllocCheckResponse struct {
	SkipIPv4, SkipIPv6 bool
}

type empty struct{}

// newSocket returns the handler of the plugin socket. Calls that need the backend wait for the gate; what the Engine
// asks when it loads the plugin is answered at once. Scope, "local" or "global", says where the Engine keeps networks.
func newSocket(g *gate, scope string, log *logrus.Entry) http.Handler {
	s := &socket{mux: http.NewServeMux(), log: log}

	constant(s, "Plugin.Activate", map[string][]string{"Implements": {"NetworkDriver", "IpamDriver"}})
	s.mux.HandleFunc("POST /NetworkDriver.GetCapabilities", func(w http.ResponseWriter, _ *http.Request) {
		// Every engine asks this before all else, once.
		if c := g.now(); c != nil {
			c.backend.EngineStarted()
		}
		// Connectivity is global whatever the scope: Swarm then spreads names of such networks over its nodes.
		reply(w, http.StatusOK, capabilities{
			CapabilitiesResponse: network.CapabilitiesResponse{Scope: scope, ConnectivityScope: network.GlobalScope},
			GwAllocChecker:       true,
		})
	})
	// Neither MACs nor a replay after the Engine's restart are needed: the state has all.
	constant(s, "IpamDriver.GetCapabilities", dockeripam.CapabilitiesResponse{})
	constant(s, "IpamDriver.GetDefaultAddressSpaces", dockeripam.AddressSpacesResponse{
		LocalDefaultAddressSpace: ipam.LocalSpace, GlobalDefaultAddressSpace: ipam.GlobalSpace,
	})

	handle(s, logrus.InfoLevel, "NetworkDriver.CreateNetwork", tell(g, backend.CreateNetwork))
	handle(s, logrus.InfoLevel, "NetworkDriver.DeleteNetwork", tell(g, backend.DeleteNetwork))
	handle(s, logrus.InfoLevel, "NetworkDriver.CreateEndpoint", ask(g, backend.CreateEndpoint))
	handle(s, logrus.InfoLevel, "NetworkDriver.DeleteEndpoint", tell(g, backend.DeleteEndpoint))
	handle(s, logrus.InfoLevel, "NetworkDriver.Join", ask(g, backend.Join))
	handle(s, logrus.InfoLevel, "NetworkDriver.Leave", tell(g, backend.Leave))
	handle(s, logrus.InfoLevel, "IpamDriver.RequestPool", ask(g, backend.RequestPool))
	handle(s, logrus.InfoLevel, "IpamDriver.ReleasePool", tell(g, backend.ReleasePool))
	handle(s, logrus.InfoLevel, "IpamDriver.RequestAddress", ask(g, backend.RequestAddress))
	handle(s, logrus.InfoLevel, "IpamDriver.ReleaseAddress", tell(g, backend.ReleaseAddress))

	handle(s, logrus.DebugLevel, "NetworkDriver.GwAllocCheck", gwAllocCheck)
	handle(s, logrus.DebugLevel, "NetworkDriver.AllocateNetwork", allocateNetwork)
	handle(s, logrus.DebugLevel, "NetworkDriver.FreeNetwork", nothing[network.FreeNetworkRequest])
	handle(s, logrus.DebugLevel, "NetworkDriver.EndpointOperInfo", operInfo)
	handle(s, logrus.DebugLevel, "NetworkDriver.DiscoverNew", nothing[network.DiscoveryNotification])
	handle(s, logrus.DebugLevel, "NetworkDriver.DiscoverDelete", nothing[network.DiscoveryNotification])
	handle(s, logrus.DebugLevel, "NetworkDriver.ProgramExternalConnectivity", nothing[network.ProgramExternalConnectivityRequest])
	handle(s, logrus.DebugLevel, "NetworkDriver.RevokeExternalConnectivity", nothing[network.RevokeExternalConnectivityRequest])

	return s.mux
}

// constant answers a call that has no request with the same answer always.
func constant(s *socket, call string, answer any) {
	s.mux.HandleFunc("POST /"+call, func(w http.ResponseWriter, _ *http.Request) {
		s.log.WithField("call", call).Debug("done")
		reply(w, http.StatusOK, answer)
	})
}

// ask is a call of the backend that has an answer.
func ask[Req, Resp any](g *gate, fn func(backend, context.Context, *Req) (Resp, error)) func(context.Context, *Req) (Resp, error) {
	return func(ctx context.Context, req *Req) (Resp, error) {
		c, err := g.wait(ctx)
		if err != nil {
			var none Resp
			return none, err
		}
		return fn(c.backend, ctx, req)
	}
}

// tell is a call of the backend that is answered with success or an error only.
func tell[Req any](g *gate, fn func(backend, context.Context, *Req) error) func(context.Context, *Req) (empty, error) {
	return ask(g, func(b backend, ctx context.Context, req *Req) (empty, error) {
		return empty{}, fn(b, ctx, req)
	})
}

// nothing is a call that weave has nothing to do for.
func nothing[Req any](context.Context, *Req) (empty, error) { return empty{}, nil }

// gwAllocCheck says that no network needs a gateway address: Docker's own bridge leads out, so every address of the
// pool is a container's.
func gwAllocCheck(context.Context, *gwAllocCheckRequest) (gwAllocCheckResponse, error) {
	return gwAllocCheckResponse{SkipIPv4: true, SkipIPv6: true}, nil
}

// allocateNetwork returns the options as they came: Swarm's nodes get what is answered here in their place.
func allocateNetwork(_ context.Context, req *network.AllocateNetworkRequest) (network.AllocateNetworkResponse, error) {
	return network.AllocateNetworkResponse{Options: req.Options}, nil
}

// operInfo has nothing to tell: the Engine takes no port from a plugin's answer, and addresses it knows.
func operInfo(context.Context, *network.InfoRequest) (network.InfoResponse, error) {
	return network.InfoResponse{Value: map[string]string{}}, nil
}
