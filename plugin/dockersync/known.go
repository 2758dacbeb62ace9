// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
)

// Known is what Docker holds weave responsible for.
type Known struct {
	Drivers   []string                            // the driver names under which Docker knows weave
	Networks  []Network                           // by id
	Endpoints []Endpoint                          // by id
	Others    map[driver.NetworkID][]netip.Prefix // subnets of the networks that have nothing to do with these names
}

// Network is a network whose driver or IPAM driver is weave.
type Network struct {
	ID         driver.NetworkID
	Name       string
	Driver     string
	IPAMDriver string
	Scope      string            // "local", "global" or "swarm"; Swarm makes its networks again by itself
	Options    map[string]string // of the driver
	Cluster    string            // the network of the cluster that it is, by an option of either driver; empty: none
	Internal   bool
	IPv4       bool
	IPv6       bool
	Subnets    []Subnet
	Created    time.Time
}

// Subnet is a subnet of a network, as Docker's IPAM configuration has it.
type Subnet struct {
	Subnet  netip.Prefix
	Range   netip.Prefix          // zero: none was given
	Gateway netip.Addr            // zero: none
	Aux     map[string]netip.Addr // auxiliary addresses, by name
}

// Endpoint is an endpoint on one of the networks. A stopped container has none.
type Endpoint struct {
	ID            driver.EndpointID
	Network       driver.NetworkID
	Container     string // id; empty: Docker does not say whose endpoint it is
	ContainerName string
	MAC           mac.Address       // zero: Docker tells none
	Addresses     []netip.Prefix    // IPv4 first
	Sandbox       string            // SandboxKey, a path; empty: the container has none now
	Options       map[string]string // of the driver, for this endpoint
	Gateways      []netip.Addr      // that weave has answered for it, IPv4 first
	External      bool              // Docker has made these the container's way out
}

// Known reads all networks and endpoints that Docker holds weave responsible for. It returns everything or an error, so
// Docker does not have what is missing from the result.
//
// No call of Docker's may wait for it: Docker answers some of its requests only after calls to its plugins that are
// under way. Ctx bounds all requests together; each also has a deadline of its own.
func (w *Watcher) Known(ctx context.Context) (Known, error) {
	s, err := w.client.connect(ctx)
	if err != nil {
		return Known{}, err
	}
	var list []wireNetwork
	if err := s.get(ctx, "/networks", &list); err != nil {
		return Known{}, err
	}
	known := Known{Drivers: w.drivers, Others: map[driver.NetworkID][]netip.Prefix{}}
	if w.pluginID != "" {
		plugin, _, err := s.pluginNames(ctx, w.pluginID)
		if err != nil {
			return Known{}, err
		}
		if plugin != "" {
			known.Drivers = append(slices.Clip(known.Drivers), plugin)
		}
	}
	for _, n := range list {
		if n.ConfigOnly || !slices.Contains(known.Drivers, n.Driver) && !slices.Contains(known.Drivers, n.IPAM.Driver) {
			known.Others[driver.NetworkID(n.ID)] = n.subnets()
			continue
		}
		if err := s.addNetwork(ctx, &known, n.ID); err != nil {
			return Known{}, err
		}
	}
	if err := s.addContainers(ctx, known.Endpoints); err != nil {
		return Known{}, err
	}
	w.lookAtServices(ctx, s, known)
	slices.SortFunc(known.Networks, func(a, b Network) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(known.Endpoints, func(a, b Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	return known, nil
}

// addNetwork reads the network of this id and adds it with its endpoints, unless it was removed meanwhile.
func (s session) addNetwork(ctx context.Context, known *Known, id string) error {
	var wire wireNetwork
	err := s.get(ctx, "/networks/"+url.PathEscape(id), &wire)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := wire.network()
	if err != nil {
		return fmt.Errorf("network %s in docker's API: %w", id, err)
	}
	known.Networks = append(known.Networks, n)
	for container, e := range wire.Containers {
		endpoint, err := e.endpoint(n.ID, container)
		if err != nil {
			return fmt.Errorf("network %s in docker's API: endpoint %s: %w", id, e.EndpointID, err)
		}
		known.Endpoints = append(known.Endpoints, endpoint)
	}
	return nil
}

// wireContainer is what is read of a container.
type wireContainer struct {
	NetworkSettings struct {
		SandboxKey string
		Networks   map[string]wireAttachment // by name
	}
}

// wireAttachment is what is read of a container's endpoint on a network.
type wireAttachment struct {
	EndpointID           string
	DriverOpts           map[string]string
	Gateway, IPv6Gateway string
	GwPriority           int      // since Docker 28; before, each has the same
	Aliases, DNSNames    []string // Docker before 25 has no DNSNames, which contain the aliases
}

func (a wireAttachment) gateways() []netip.Addr {
	var out []netip.Addr
	for _, text := range []string{a.Gateway, a.IPv6Gateway} {
		if gateway, err := netip.ParseAddr(text); err == nil {
			out = append(out, gateway)
		}
	}
	return out
}

// wayOut returns the name of the network that Docker has made the container's way out: of those with a gateway the one
// with the highest priority, among these one with gateways of both families, and then the first by name (Less in moby's
// libnetwork/sandbox.go). Empty: none has a gateway.
func (c wireContainer) wayOut() string {
	name, rank := "", [2]int{}
	for _, next := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
		a := c.NetworkSettings.Networks[next]
		nextRank := [2]int{a.GwPriority, len(a.gateways())}
		if len(a.gateways()) > 0 && (name == "" || slices.Compare(nextRank[:], rank[:]) > 0) {
			name, rank = next, nextRank
		}
	}
	return name
}

// addContainers adds what Docker tells of the endpoints with their containers: sandboxes and options. It reads each
// container once.
func (s session) addContainers(ctx context.Context, endpoints []Endpoint) error {
	containers := map[string]wireContainer{}
	for i, e := range endpoints {
		if e.Container == "" {
			continue
		}
		c, read := containers[e.Container]
		if !read {
			err := s.get(ctx, "/containers/"+url.PathEscape(e.Container)+"/json", &c)
			if err != nil && !errors.Is(err, errGone) {
				return err
			}
			containers[e.Container] = c
		}
		endpoints[i].Sandbox = c.NetworkSettings.SandboxKey
		for name, attached := range c.NetworkSettings.Networks {
			if attached.EndpointID != string(e.ID) {
				continue
			}
			endpoints[i].Options, endpoints[i].Gateways = attached.DriverOpts, attached.gateways()
			endpoints[i].External = c.wayOut() == name
		}
	}
	return nil
}

// wireNetwork is what is read of a network. Its addresses are text, in the forms that parseAddr describes.
type wireNetwork struct {
	ID         string `json:"Id"`
	Name       string
	Driver     string
	Scope      string
	Created    time.Time
	Internal   bool
	ConfigOnly bool
	EnableIPv4 *bool // since Docker 28; before, each network had it
	EnableIPv6 bool
	Options    map[string]string
	IPAM       struct {
		Driver  string
		Options map[string]string
		Config  []wireSubnet
	}
	Containers map[string]wireEndpoint // by container id, or "ep-" and the endpoint's id where there is none
}

type wireSubnet struct {
	Subnet, IPRange, Gateway string
	AuxiliaryAddresses       map[string]string
}

type wireEndpoint struct {
	Name, EndpointID, MacAddress, IPv4Address, IPv6Address string
}

func (w wireNetwork) network() (Network, error) {
	n := Network{
		ID:         driver.NetworkID(w.ID),
		Name:       w.Name,
		Driver:     w.Driver,
		IPAMDriver: w.IPAM.Driver,
		Scope:      w.Scope,
		Options:    w.Options,
		Cluster:    cmp.Or(w.Options[driver.OptionNetwork], w.IPAM.Options[driver.OptionNetwork]),
		Internal:   w.Internal,
		IPv4:       w.EnableIPv4 == nil || *w.EnableIPv4,
		IPv6:       w.EnableIPv6,
		Created:    w.Created,
	}
	for _, c := range w.IPAM.Config {
		subnet, err := c.subnet()
		if err != nil {
			return Network{}, fmt.Errorf("subnet %q: %w", c.Subnet, err)
		}
		if subnet.Subnet.IsValid() {
			n.Subnets = append(n.Subnets, subnet)
		}
	}
	return n, nil
}

// subnets returns the subnets of a network of anybody's. A text that is no subnet is passed over, as none of weave's.
func (w wireNetwork) subnets() []netip.Prefix {
	out := []netip.Prefix{}
	for _, c := range w.IPAM.Config {
		if p, err := parsePrefix(c.Subnet); err == nil && p.IsValid() {
			out = append(out, p.Masked())
		}
	}
	return out
}

// subnet returns the subnet as Docker's IPAM uses it: Docker keeps prefixes and addresses as the user typed them, with
// host bits, or mapped to IPv6. Where Docker names no subnet, Subnet is zero.
func (w wireSubnet) subnet() (s Subnet, err error) {
	if s.Subnet, err = parsePrefix(w.Subnet); err != nil {
		return Subnet{}, err
	}
	if s.Range, err = parsePrefix(w.IPRange); err != nil {
		return Subnet{}, err
	}
	s.Subnet, s.Range = s.Subnet.Masked(), s.Range.Masked()
	if s.Gateway, err = parseAddr(w.Gateway); err != nil {
		return Subnet{}, err
	}
	for name, text := range w.AuxiliaryAddresses {
		a, err := parseAddr(text)
		if err != nil {
			return Subnet{}, err
		}
		if !a.IsValid() {
			continue
		}
		if s.Aux == nil {
			s.Aux = map[string]netip.Addr{}
		}
		s.Aux[name] = a
	}
	return s, nil
}

func (w wireEndpoint) endpoint(network driver.NetworkID, container string) (Endpoint, error) {
	e := Endpoint{ID: driver.EndpointID(w.EndpointID), Network: network}
	e.MAC, _ = mac.Parse(w.MacAddress) // zero if it is none: then this endpoint can't be adopted, and the others can
	if !strings.HasPrefix(container, "ep-") {
		e.Container, e.ContainerName = container, w.Name
	}
	for _, text := range []string{w.IPv4Address, w.IPv6Address} {
		a, err := parsePrefix(text)
		if err != nil {
			return Endpoint{}, err
		}
		if a.IsValid() {
			e.Addresses = append(e.Addresses, a)
		}
	}
	return e, nil
}

// parsePrefix parses an address with its prefix length. The Prefix is zero if text stands for no address.
func parsePrefix(text string) (netip.Prefix, error) {
	if isNone(text) {
		return netip.Prefix{}, nil
	}
	return netip.ParsePrefix(text)
}

// parseAddr parses an address. The Addr is zero if text stands for no address. Docker before 28.0 writes the gateway of
// an IPv6 subnet with the subnet's prefix length.
func parseAddr(text string) (netip.Addr, error) {
	if isNone(text) {
		return netip.Addr{}, nil
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(text)
	return a.Unmap(), err
}

// isNone reports whether text stands for no address. Docker prints Go's nil as it is.
func isNone(text string) bool { return text == "" || text == "<nil>" }
