// SPDX-License-Identifier: Apache-2.0

// Package remote speaks Docker's protocol for remote network and IPAM drivers: it turns Docker's requests into calls of
// weave's driver and IPAM, and their results and errors into what Docker reads.
//
// It runs in the host's network namespace and changes nothing there itself.
package remote

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// Networks does the work of Docker's network calls. driver.Driver is one.
type Networks interface {
	CreateNetwork(context.Context, driver.NetworkSpec) error
	DeleteNetwork(context.Context, driver.NetworkID) error
	CreateEndpoint(context.Context, driver.EndpointSpec) (driver.Endpoint, error)
	DeleteEndpoint(context.Context, driver.NetworkID, driver.EndpointID) error
	Join(ctx context.Context, nw driver.NetworkID, ep driver.EndpointID, sandbox string, ports driver.Ports) (
		driver.Attachment, error)
	Leave(context.Context, driver.NetworkID, driver.EndpointID) error
	SetExternal(ctx context.Context, nw driver.NetworkID, ep driver.EndpointID, external bool) error
	// DockerStarted is called when Docker begins to use the plugin.
	DockerStarted()
}

// Pools does the work of Docker's IPAM calls. ipam.IPAM is one.
type Pools interface {
	RequestPool(context.Context, ipam.PoolRequest) (ipam.Pool, error)
	ReleasePool(context.Context, ipam.PoolID) error
	RequestAddressFor(ctx context.Context, id ipam.PoolID, addr netip.Addr, owner string) (netip.Prefix, error)
	RequestGateway(ctx context.Context, id ipam.PoolID, addr netip.Addr) (netip.Prefix, error)
	ReleaseAddress(context.Context, ipam.PoolID, netip.Addr) error
	Share(ctx context.Context, space string, subnet netip.Prefix, network string) (string, error)
}

// Options are what the handler of all calls works with.
type Options struct {
	Networks Networks      // required
	Pools    Pools         // required
	Scope    string        // "local" or "global": where Docker keeps networks
	Log      *logrus.Entry // required

	// Recheck is called when a request contradicts what weave tracks, which may be out of date. It has weave compare
	// itself with Docker in the background, and reports whether Docker can be asked. Optional.
	Recheck func() bool

	// Called is called when a call has been answered, by many goroutines, and must not wait. Optional.
	Called func(Call)
}

// Call is a call of Docker's that has been answered.
type Call struct {
	Name     string // "NetworkDriver.Join"
	Network  string // id that the request names, as it is there; empty: none
	Endpoint string // likewise
	Took     time.Duration
	Err      error // nil: it has succeeded
}

// routes are the calls that are answered.
type routes struct {
	mux     *http.ServeMux
	log     *logrus.Entry
	recheck func() bool
	called  func(Call)
}

// New returns the handler of all calls.
func New(o Options) *http.ServeMux {
	r := routes{http.NewServeMux(), o.Log, o.Recheck, o.Called}
	if r.recheck == nil {
		r.recheck = func() bool { return false }
	}
	if r.called == nil {
		r.called = func(Call) {}
	}
	r.addHandshake(o.Scope, o.Networks.DockerStarted)
	r.addNetworks(o.Networks, o.Pools, o.Scope)
	r.addPools(o.Pools)
	return r.mux
}

// NewHandshake returns the handler of the calls that need neither networks nor pools. With these Docker can load the
// plugin while weave still opens its state. Scope is as in Options.
func NewHandshake(scope string, log *logrus.Entry) *http.ServeMux {
	r := routes{http.NewServeMux(), log, func() bool { return false }, func(Call) {}}
	r.addHandshake(scope, func() {})
	return r.mux
}

// addHandshake adds the calls that are answered without networks and pools. Started is called when Docker begins to use
// the plugin.
func (r routes) addHandshake(scope string, started func()) {
	r.constant("Plugin.Activate", map[string][]string{"Implements": {"NetworkDriver", "IpamDriver"}})
	r.mux.HandleFunc("POST /NetworkDriver.GetCapabilities", func(w http.ResponseWriter, _ *http.Request) {
		started() // each Docker daemon makes this call once, before all others
		// Connectivity is global whatever the scope: Swarm then spreads names of such networks over its nodes.
		reply(w, http.StatusOK, capabilities{
			CapabilitiesResponse: network.CapabilitiesResponse{Scope: scope, ConnectivityScope: network.GlobalScope},
			GwAllocChecker:       true,
		})
	})
	// Docker need neither send MACs nor repeat requests after its own restart: the state has everything.
	r.constant("IpamDriver.GetCapabilities", dockeripam.CapabilitiesResponse{})
	r.constant("IpamDriver.GetDefaultAddressSpaces", dockeripam.AddressSpacesResponse{
		LocalDefaultAddressSpace: ipam.LocalSpace, GlobalDefaultAddressSpace: ipam.GlobalSpace,
	})

	handle(r, logrus.DebugLevel, "NetworkDriver.GwAllocCheck", gwAllocCheck)
	handle(r, logrus.DebugLevel, "NetworkDriver.AllocateNetwork", allocateNetwork)
	handle(r, logrus.DebugLevel, "NetworkDriver.FreeNetwork", accept[network.FreeNetworkRequest])
	handle(r, logrus.DebugLevel, "NetworkDriver.EndpointOperInfo", operInfo)
	handle(r, logrus.DebugLevel, "NetworkDriver.DiscoverNew", accept[network.DiscoveryNotification])
	handle(r, logrus.DebugLevel, "NetworkDriver.DiscoverDelete", accept[network.DiscoveryNotification])
}

// constant adds a call that has no request and always the same answer.
func (r routes) constant(call string, answer any) {
	r.mux.HandleFunc("POST /"+call, func(w http.ResponseWriter, _ *http.Request) {
		r.log.WithField("call", call).Debug("done")
		reply(w, http.StatusOK, answer)
	})
}

// empty is the answer to a call that only succeeds or fails.
type empty struct{}

// accept answers a call for which weave has nothing to do.
func accept[Req any](context.Context, *Req) (empty, error) { return empty{}, nil }

// capabilities are those of a network driver; go-plugins-helpers lacks the last, which Docker knows from 28 on.
type capabilities struct {
	network.CapabilitiesResponse
	GwAllocChecker bool
}

// gwAllocCheckRequest is sent before a network is made, by Docker 28 and later, to learn whether it needs gateway
// addresses.
type gwAllocCheckRequest struct {
	Options map[string]any
}

type gwAllocCheckResponse struct {
	SkipIPv4, SkipIPv6 bool
}

// gwAllocCheck answers which networks need no gateway address, so that every address of the pool is for a container:
// those that Docker's own bridge leads out of, and those with another router. A request with options that weave does
// not take is none of its business: CreateNetwork refuses them.
func gwAllocCheck(_ context.Context, req *gwAllocCheckRequest) (gwAllocCheckResponse, error) {
	var spec driver.NetworkSpec
	if _, err := addUserOptions(&spec, req.Options[labelGeneric]); err != nil {
		return gwAllocCheckResponse{SkipIPv4: true, SkipIPv6: true}, nil
	}
	spec.Internal, _ = boolLabel(labelInternal, req.Options[labelInternal])
	skip := !spec.NeedsGateways()
	return gwAllocCheckResponse{SkipIPv4: skip, SkipIPv6: skip}, nil
}

// allocateNetwork returns the options unchanged: Swarm's nodes get what is answered here in place of the request's.
func allocateNetwork(_ context.Context, req *network.AllocateNetworkRequest) (network.AllocateNetworkResponse, error) {
	return network.AllocateNetworkResponse{Options: req.Options}, nil
}

// operInfo answers with no information: Docker takes no port from a plugin's answer, and it knows the addresses.
func operInfo(context.Context, *network.InfoRequest) (network.InfoResponse, error) {
	return network.InfoResponse{Value: map[string]string{}}, nil
}
