package driver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-plugins-helpers/network"
)

// Options of `docker network create -o`.
const (
	optionBridge    = "works.weave.bridge"
	optionMTU       = "works.weave.mtu"
	optionMulticast = "works.weave.multicast"
	optionDockerMTU = "com.docker.network.driver.mtu" // Docker's own name for optionMTU
)

// Keys that Docker itself puts into a request; see libnetwork/netlabel in moby.
const (
	dockerPrefix     = "com.docker.network."
	dockerGeneric    = dockerPrefix + "generic"
	dockerInternal   = dockerPrefix + "internal"
	dockerEnableIPv4 = dockerPrefix + "enable_ipv4"
)

// Bounds of an MTU in bytes: the least that IPv4 (RFC 791) and IPv6 (RFC 8200) work with, and the most that a veth takes.
const (
	MinMTU     = 68
	minMTUIPv6 = 1280
	MaxMTU     = 65535
)

// parseNetwork is the network that Docker asks for. Past it nobody sees Docker's option maps.
func parseNetwork(req *network.CreateNetworkRequest, defaultMTU int) (Network, error) {
	nw := Network{ID: NetworkID(req.NetworkID), MTU: defaultMTU}
	if err := nw.ID.check(); err != nil {
		return Network{}, err
	}
	if err := nw.parseOptions(req.Options); err != nil {
		return Network{}, err
	}
	for _, d := range slices.Concat(req.IPv4Data, req.IPv6Data) {
		p, err := parsePool(d)
		if err != nil {
			return Network{}, err
		}
		if p.Subnet.IsValid() {
			nw.Pools = append(nw.Pools, p)
		}
	}
	if nw.hasIPv6() && nw.MTU < minMTUIPv6 {
		return Network{}, fmt.Errorf("%w: mtu %d: a network with IPv6 needs at least %d", ErrInvalid, nw.MTU, minMTUIPv6)
	}
	return nw, nil
}

func (n *Network) hasIPv6() bool {
	return slices.ContainsFunc(n.Pools, func(p Pool) bool { return p.Subnet.Addr().Is6() })
}

// parseOptions reads the options that Docker itself adds and, under "generic", those that the user typed.
func (n *Network) parseOptions(options map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		var err error
		switch value := options[key]; {
		case key == dockerGeneric:
			err = n.parseUserOptions(value)
		case key == dockerInternal:
			n.Internal, err = boolOption(key, value)
		case key == dockerEnableIPv4: // first sent by the engine that first announces addresses itself, 28
			n.Announced = true
		case !strings.HasPrefix(key, dockerPrefix):
			err = unknownOption(key, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// networkOptions are the options that `docker network create -o` takes. Those of Docker's own prefix pass, known or not:
// the engine adds such from its configuration.
var networkOptions = []string{optionBridge, optionMTU, optionMulticast}

func (n *Network) parseUserOptions(generic any) error {
	options, ok := generic.(map[string]any)
	if !ok && generic != nil {
		return invalidOption(dockerGeneric, generic, "an object of strings")
	}
	var mtu, dockerMTU int
	for _, key := range slices.Sorted(maps.Keys(options)) {
		value, ok := options[key].(string)
		if !ok {
			return invalidOption(key, options[key], "a string")
		}
		var err error
		switch {
		case key == optionBridge:
			if err := checkBridgeName(value); err != nil {
				return invalidOption(key, value, err.Error())
			}
			n.Bridge = value
		case key == optionMTU:
			mtu, err = mtuOption(key, value)
		case key == optionDockerMTU:
			dockerMTU, err = mtuOption(key, value)
		case key == optionMulticast:
			n.Multicast, err = boolOption(key, value)
		case !strings.HasPrefix(key, dockerPrefix):
			err = unknownOption(key, value)
		}
		if err != nil {
			return err
		}
	}
	if mtu != 0 && dockerMTU != 0 && mtu != dockerMTU {
		return fmt.Errorf("%w: options %s=%d and %s=%d mean the same: give one of them", ErrInvalid, optionMTU, mtu, optionDockerMTU, dockerMTU)
	}
	n.MTU = cmp.Or(mtu, dockerMTU, n.MTU)
	return nil
}

func invalidOption(key string, value any, want string) error {
	return fmt.Errorf("%w: option %s: %q: %s", ErrInvalid, key, fmt.Sprint(value), want)
}

func unknownOption(key string, value any) error {
	return fmt.Errorf("%w: unknown option %s=%q: weave takes %s", ErrInvalid, key, fmt.Sprint(value), strings.Join(networkOptions, ", "))
}

func mtuOption(key, value string) (int, error) {
	mtu, err := strconv.Atoi(value)
	if err != nil || mtu < MinMTU || mtu > MaxMTU {
		return 0, invalidOption(key, value, fmt.Sprintf("want %d..%d", MinMTU, MaxMTU))
	}
	return mtu, nil
}

func boolOption(key string, value any) (bool, error) {
	switch value {
	case true, "true":
		return true, nil
	case false, "false":
		return false, nil
	}
	return false, invalidOption(key, value, "want true or false")
}

// parsePool reads a subnet of the request. Docker leaves the pool out where a network has none: the Pool is then zero.
func parsePool(d *network.IPAMData) (Pool, error) {
	if d == nil || d.Pool == "" {
		return Pool{}, nil
	}
	subnet, err := netip.ParsePrefix(d.Pool)
	if err != nil || subnet.Addr().Is4In6() {
		return Pool{}, fmt.Errorf("%w: pool %q: want a subnet such as 10.32.0.0/22", ErrInvalid, d.Pool)
	}
	p := Pool{Subnet: subnet.Masked(), Space: d.AddressSpace}
	if d.Gateway != "" {
		gw, err := netip.ParsePrefix(d.Gateway) // an address with the pool's mask
		if err != nil || !p.Subnet.Contains(gw.Addr()) {
			return Pool{}, fmt.Errorf("%w: gateway %q: want an address of %s with its mask", ErrInvalid, d.Gateway, p.Subnet)
		}
		p.Gateway = gw.Addr()
	}
	for _, name := range slices.Sorted(maps.Keys(d.AuxAddresses)) {
		text, _ := d.AuxAddresses[name].(string)
		aux, err := netip.ParsePrefix(text)
		if err != nil || !p.Subnet.Contains(aux.Addr()) {
			return Pool{}, fmt.Errorf("%w: auxiliary address %s=%q: want an address of %s with its mask", ErrInvalid, name, text, p.Subnet)
		}
		p.Reserved = append(p.Reserved, aux.Addr())
	}
	return p, nil
}

// parseEndpoint is the endpoint that Docker asks for, without a host end; its MAC is empty if the request has none.
func parseEndpoint(req *network.CreateEndpointRequest) (Endpoint, error) {
	ep := Endpoint{ID: EndpointID(req.EndpointID), Network: NetworkID(req.NetworkID)}
	if err := checkIDs(ep.Network, ep.ID); err != nil {
		return Endpoint{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(req.Options)) {
		if !strings.HasPrefix(key, dockerPrefix) {
			return Endpoint{}, fmt.Errorf("%w: unknown option %s=%q: weave has no options for an endpoint", ErrInvalid, key, fmt.Sprint(req.Options[key]))
		}
	}
	if req.Interface == nil {
		return ep, nil
	}
	for _, text := range []string{req.Interface.Address, req.Interface.AddressIPv6} {
		if text == "" {
			continue
		}
		a, err := netip.ParsePrefix(text)
		if err != nil || a.Addr().Is4In6() {
			return Endpoint{}, fmt.Errorf("%w: address %q: want one such as 10.32.0.5/22", ErrInvalid, text)
		}
		ep.Addresses = append(ep.Addresses, a)
	}
	if req.Interface.MacAddress != "" {
		mac, err := parseMAC(req.Interface.MacAddress)
		if err != nil {
			return Endpoint{}, err
		}
		ep.MAC = mac
	}
	return ep, nil
}

func parseMAC(text string) (string, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || bytes.Equal(mac, make([]byte, 6)) {
		return "", fmt.Errorf("%w: MAC %q: want six bytes such as 02:42:0a:20:00:05, not all zero, the first one even", ErrInvalid, text)
	}
	return mac.String(), nil
}

// checkIDs checks a network's and an endpoint's id.
func checkIDs(nw NetworkID, ep EndpointID) error {
	if err := nw.check(); err != nil {
		return err
	}
	return ep.check()
}

// inPools checks that an endpoint's addresses belong to its network. A network without a subnet of an address's family
// or with Docker's null pool (0.0.0.0/0) takes any.
func (n *Network) inPools(addresses []netip.Prefix) error {
	for _, a := range addresses {
		var family []Pool
		for _, p := range n.Pools {
			if p.Subnet.Addr().Is4() == a.Addr().Is4() {
				family = append(family, p)
			}
		}
		if len(family) > 0 && !slices.ContainsFunc(family, func(p Pool) bool { return p.Subnet.Contains(a.Addr()) }) {
			return fmt.Errorf("%w: address %s is in no subnet of network %s", ErrInvalid, a, n.ID)
		}
	}
	return nil
}

// same reports whether two requests for a network ask for the same.
func (n *Network) same(other Network) bool {
	a, b := *n, other
	a.Bridge = cmp.Or(a.Bridge, bridgeName(a.ID))
	a.Created, a.Foreign, a.Announced = b.Created, b.Foreign, b.Announced
	aj, err1 := json.Marshal(a)
	bj, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(aj, bj)
}
