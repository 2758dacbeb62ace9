// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weaveplugin/weave/cluster"
)

// Options of `docker network create -o`.
const (
	optionBridge    = "works.weave.bridge"
	optionFirewall  = "works.weave.firewall"
	optionGateway   = "works.weave.gateway"
	optionGuard     = "works.weave.guard"
	optionHost      = "works.weave.host"
	optionMTU       = "works.weave.mtu"
	optionMulticast = "works.weave.multicast"
	optionNAT       = "works.weave.nat"
)

// OptionNetwork is the option by which a network is one of the cluster: of the network driver (-o), or of weave's IPAM
// driver (--ipam-opt), whose pools are that network's then.
const OptionNetwork = "works.weave.network"

// optionRouter is an option of an endpoint: `docker run --network name=NETWORK,driver-opt=works.weave.router=true`.
const optionRouter = "works.weave.router"

// ownPrefix begins the names of weave's own options.
const ownPrefix = "works.weave."

// Bounds of an MTU in bytes: the least that IPv4 (RFC 791) and IPv6 (RFC 8200) work with, and the most that a veth can
// have.
const (
	MinMTU     = 68
	MaxMTU     = 65535
	minMTUIPv6 = 1280
)

// NetworkOptions are what a user sets with `docker network create -o`.
type NetworkOptions struct {
	Bridge          string // name of the bridge; empty: not set
	MTU             int    // bytes; 0: not set
	Multicast       bool
	Firewall        Firewall // empty: not set
	Guard           Guard    // empty: not set
	Gateway         Gateway  // empty: not set
	NAT             NAT
	HostApart       bool
	Cluster         string // name of the network of the cluster; empty: not set
	InterfacePrefix string // of the names that interfaces get in containers; empty: not set

	dockerMTU int // bytes, by Docker's name for the option; 0: not set
}

// EndpointOptions are what a user sets for an endpoint: a driver-opt of `docker run --network`, or --driver-opt of
// `docker network connect`.
type EndpointOptions struct {
	Router bool // may send router advertisements and DHCP answers
}

// option is an option that sets something in a T.
type option[T any] struct {
	name string
	// set takes the value over. Its error says what is accepted, or what to do instead.
	set func(out *T, value string) error
}

// weaveNetworkOptions are weave's own options of a network.
var weaveNetworkOptions = []option[NetworkOptions]{
	{optionBridge, func(out *NetworkOptions, value string) error {
		out.Bridge = value
		return checkBridgeName(value)
	}},
	{optionFirewall, func(out *NetworkOptions, value string) error {
		out.Firewall = Firewall(value)
		return oneOf(value, string(FirewallNone), string(FirewallHost))
	}},
	{optionGateway, func(out *NetworkOptions, value string) (err error) {
		out.Gateway, err = parseGateway(value)
		return err
	}},
	{optionGuard, func(out *NetworkOptions, value string) error {
		on, err := parseBool(value)
		out.Guard = GuardOff
		if on {
			out.Guard = GuardOn
		}
		return err
	}},
	{optionHost, func(out *NetworkOptions, value string) error {
		on, err := parseBool(value)
		out.HostApart = !on
		return err
	}},
	{optionMTU, func(out *NetworkOptions, value string) (err error) {
		out.MTU, err = parseMTU(value)
		return err
	}},
	{optionMulticast, func(out *NetworkOptions, value string) (err error) {
		out.Multicast, err = parseBool(value)
		return err
	}},
	{optionNAT, func(out *NetworkOptions, value string) (err error) {
		out.NAT, err = parseNAT(value)
		return err
	}},
	{OptionNetwork, func(out *NetworkOptions, value string) error {
		out.Cluster = value
		return cluster.CheckName(value)
	}},
}

// weaveEndpointOptions are weave's own options of an endpoint.
var weaveEndpointOptions = []option[EndpointOptions]{
	{optionRouter, func(out *EndpointOptions, value string) (err error) {
		out.Router, err = parseBool(value)
		return err
	}},
}

var (
	networkOptions  = slices.Concat(weaveNetworkOptions, dockerNetworkOptions)
	endpointOptions = slices.Concat(weaveEndpointOptions, dockerEndpointOptions)
)

// Refusals are the options that were not taken, in the order of their names.
type Refusals struct {
	Errs    []error  // of options that are unknown, malformed, or promise what weave does not do; each is ErrInvalid
	Unknown []string // names of options that are Docker's by their prefix and that weave does not know
	unread  []error  // those of Errs that are about values of weave's own options and of Docker's for the MTU
}

// Err returns the first error, nil if there is none: options that weave does not know and that are Docker's by their
// prefix pass. An engine of tomorrow may add one to every request, and all of them would fail if it were refused. A
// user's misspelling passes, too; so whoever calls logs Unknown.
func (r Refusals) Err() error {
	if len(r.Errs) > 0 {
		return r.Errs[0]
	}
	return nil
}

// Unread returns the first error about a value that every version of weave has read, nil if there is none: without it
// weave does not know what the network is. Other options were accepted by earlier versions of weave, without any
// effect, so they keep no network from being adopted or repeated: the containers on it need it as it is.
func (r Refusals) Unread() error {
	if len(r.unread) > 0 {
		return r.unread[0]
	}
	return nil
}

// ParseNetworkOptions reads the options that a user typed for a network, and tells those that were not taken. An error
// of an option has its name, the value and what is accepted.
func ParseNetworkOptions(options map[string]string) (NetworkOptions, Refusals) {
	out, refused := parseOptions(networkOptions, options)
	if out.MTU != 0 && out.dockerMTU != 0 && out.MTU != out.dockerMTU {
		err := fmt.Errorf("%w: options %s=%d and %s=%d mean the same: give one of them",
			ErrInvalid, optionMTU, out.MTU, optionDockerMTU, out.dockerMTU)
		refused.Errs, refused.unread = append(refused.Errs, err), append(refused.unread, err)
	}
	out.MTU, out.dockerMTU = cmp.Or(out.MTU, out.dockerMTU), 0
	nat, typedNAT := options[optionNAT]
	masquerade, typed := options[optionMasquerade]
	if on, err := parseBool(masquerade); typedNAT && typed && err == nil && on != (out.NAT == NATAll) {
		err := fmt.Errorf("%w: options %s=%s and %s=%s are about the same: give one of them",
			ErrInvalid, optionNAT, nat, optionMasquerade, masquerade)
		refused.Errs, refused.unread = append(refused.Errs, err), append(refused.unread, err)
	}
	return out, refused
}

// ParseEndpointOptions reads the options that a user typed for an endpoint, as ParseNetworkOptions does.
func ParseEndpointOptions(options map[string]string) (EndpointOptions, Refusals) {
	return parseOptions(endpointOptions, options)
}

// parseOptions applies the options of the table. What is refused sets nothing.
func parseOptions[T any](table []option[T], options map[string]string) (T, Refusals) {
	var out T
	var refused Refusals
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		i := slices.IndexFunc(table, func(o option[T]) bool { return o.name == name })
		switch {
		case i >= 0:
			next := out
			if err := table[i].set(&next, value); err != nil {
				err = invalidOption(name, value, err.Error())
				refused.Errs = append(refused.Errs, err)
				if strings.HasPrefix(name, ownPrefix) || name == optionDockerMTU {
					refused.unread = append(refused.unread, err)
				}
				continue
			}
			out = next
		case strings.HasPrefix(name, dockerPrefix) && !strings.HasPrefix(name, bridgePrefixOfDocker):
			refused.Unknown = append(refused.Unknown, name)
		default:
			refused.Errs = append(refused.Errs, fmt.Errorf("%w: unknown option %s=%q: weave takes %s",
				ErrInvalid, name, value, strings.Join(ownNames(table), ", ")))
		}
	}
	return out, refused
}

// ownNames returns the names of weave's own options.
func ownNames[T any](table []option[T]) []string {
	var names []string
	for _, o := range table {
		if strings.HasPrefix(o.name, ownPrefix) {
			names = append(names, o.name)
		}
	}
	return names
}

func invalidOption(key, value, want string) error {
	return fmt.Errorf("%w: option %s: %q: %s", ErrInvalid, key, value, want)
}

func oneOf(value string, accepted ...string) error {
	if slices.Contains(accepted, value) {
		return nil
	}
	return fmt.Errorf("want %s", strings.Join(accepted, " or "))
}

func parseMTU(value string) (int, error) {
	mtu, err := strconv.Atoi(value)
	if err != nil || mtu < MinMTU || mtu > MaxMTU {
		return 0, fmt.Errorf("want %d..%d", MinMTU, MaxMTU)
	}
	return mtu, nil
}

// parseNAT reads for which protocols the host translates addresses.
func parseNAT(value string) (NAT, error) {
	if n := NAT(value); n == NATIPv4 || n == NATIPv6 {
		return n, nil
	}
	on, err := parseBool(value)
	switch {
	case err != nil:
		return NATAll, errors.New("want yes, no, ipv4 or ipv6")
	case on:
		return NATAll, nil
	}
	return NATNone, nil
}

// parseBool reads yes and no, and what Weave Net took: nothing is true, as in `-o works.weave.multicast`, and so are 1,
// t, T, TRUE, true and True; 0, f, F, FALSE, false and False are false.
func parseBool(value string) (bool, error) {
	switch value {
	case "", "yes":
		return true, nil
	case "no":
		return false, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, errors.New("want yes or no")
	}
	return on, nil
}
