// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weaveplugin/weave/internal/mac"
)

// The keys in etcd, below the prefix. The network stands before the host, so that whoever needs one network reads that
// alone.
//
//	hosts/HOST                      Host       under the presence lease: the host is there
//	holders/HOST                    Host       under the holding lease: the host may come back
//	networks/NETWORK                Network    as long as it has members
//	vnis/VNI                        NETWORK    likewise
//	members/NETWORK/HOST            nothing    under the holding lease
//	blocks/NETWORK/BLOCK            HOST       under the holding lease: a whole block, see block.go
//	blocks/NETWORK/BLOCK/ADDRESS    HOST       likewise: one address of a block that nobody has as a whole
//	macs/NETWORK/MAC                HOST/ENDPOINT likewise: a MAC that a user has named, see mac.go
//	wanted/NETWORK                  HOST       under the holding lease: it finds no address: see wanted.go
//	endpoints/NETWORK/HOST/ENDPOINT Endpoint   under the presence lease
type keys struct{ prefix string }

func (k keys) hosts() string                      { return k.prefix + "hosts/" }
func (k keys) host(id string) string              { return k.hosts() + id }
func (k keys) holders() string                    { return k.prefix + "holders/" }
func (k keys) holder(id string) string            { return k.holders() + id }
func (k keys) networks() string                   { return k.prefix + "networks/" }
func (k keys) network(name string) string         { return k.networks() + name }
func (k keys) vni(n uint32) string                { return k.prefix + "vnis/" + strconv.FormatUint(uint64(n), 10) }
func (k keys) members(network string) string      { return k.prefix + "members/" + network + "/" }
func (k keys) member(network, host string) string { return k.members(network) + host }
func (k keys) blocks(network string) string       { return k.prefix + "blocks/" + network + "/" }
func (k keys) macs(network string) string         { return k.prefix + "macs/" + network + "/" }
func (k keys) mac(n string, a mac.Address) string { return k.macs(n) + a.String() }
func (k keys) allWanted() string                  { return k.prefix + "wanted/" }
func (k keys) wanted(network string) string       { return k.allWanted() + network }
func (k keys) allEndpoints() string               { return k.prefix + "endpoints/" }
func (k keys) endpoints(network string) string    { return k.allEndpoints() + network + "/" }
func (k keys) endpoint(n, host, id string) string { return k.endpoints(n) + host + "/" + id }

// Host is a host of the cluster.
type Host struct {
	ID    string     `json:"-"`     // of its state; the key has it
	Name  string     `json:"name"`  // for people: its hostname
	VTEP  netip.Addr `json:"vtep"`  // where it takes VXLAN packets
	Since time.Time  `json:"since"` // when it registered
	// Port is the UDP port at which it takes them; 0: not known.
	Port uint16 `json:"port,omitempty"`
}

// Network is a network that hosts share.
type Network struct {
	Name    string    `json:"-"` // the key has it
	VNI     uint32    `json:"vni"`
	MTU     int       `json:"mtu"` // bytes, inside
	Subnets []Subnet  `json:"subnets"`
	Created time.Time `json:"created"`
}

// Subnet is a subnet of a network, the same on all hosts.
type Subnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"` // that every host answers for; zero: none
}

// String returns the subnet with its gateway.
func (s Subnet) String() string {
	if !s.Gateway.IsValid() {
		return s.Subnet.String()
	}
	return fmt.Sprintf("%s with gateway %s", s.Subnet, s.Gateway)
}

// Endpoint is an endpoint on one of the hosts.
type Endpoint struct {
	ID            string         `json:"-"` // Docker's; the key has it, the network and the host
	Network       string         `json:"-"`
	Host          string         `json:"-"` // id
	MAC           mac.Address    `json:"mac"`
	Addresses     []netip.Prefix `json:"addresses"` // IPv4 first
	ContainerName string         `json:"container,omitempty"`
	ContainerID   string         `json:"containerId,omitempty"`
	// Names are those under which its neighbours find it besides, as Docker has them: aliases, the service's name.
	Names []string `json:"names,omitempty"`
}

// Equal reports whether two endpoints are the same in everything.
func (ep Endpoint) Equal(other Endpoint) bool {
	return ep.ID == other.ID && ep.Network == other.Network && ep.Host == other.Host && ep.MAC == other.MAC &&
		ep.ContainerName == other.ContainerName && ep.ContainerID == other.ContainerID &&
		slices.Equal(ep.Addresses, other.Addresses) && slices.Equal(ep.Names, other.Names)
}

// Has reports whether the endpoint has an address.
func (ep Endpoint) Has(a netip.Addr) bool {
	return slices.ContainsFunc(ep.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
}

// maxRecord bounds a record that is read, in bytes: whoever can write to etcd must not fill the memory of all hosts.
const maxRecord = 16 << 10

// The smallest and the largest MTU of a network, in bytes: that which IPv4 asks for, and the kernel's limit for a veth.
const minMTU, maxMTU = 68, 65535

var (
	networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)
	recordID    = regexp.MustCompile(`^[0-9a-zA-Z]{1,64}$`)
)

// CheckName returns an error if a network can't have the name, which is that of a Docker network.
func CheckName(name string) error {
	if !networkName.MatchString(name) {
		return fmt.Errorf("network name %q: want letters, digits, _ . and -, at most 128, a letter or digit first",
			name)
	}
	return nil
}

// errRecord says that a record is not one of weave's.
var errRecord = errors.New("not a record of weave's")

func decode(value []byte, into any) error {
	if len(value) > maxRecord {
		return fmt.Errorf("%w: it has %d bytes", errRecord, len(value))
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	return nil
}

func parseHost(key, under string, value []byte) (Host, error) {
	h := Host{ID: strings.TrimPrefix(key, under)}
	if err := decode(value, &h); err != nil {
		return Host{}, err
	}
	h.VTEP = h.VTEP.Unmap()
	if !recordID.MatchString(h.ID) || !h.VTEP.IsGlobalUnicast() || h.VTEP.Zone() != "" {
		return Host{}, fmt.Errorf("%w: it has no id, or no address that packets can be sent to", errRecord)
	}
	return h, nil
}

func parseNetwork(name string, value []byte) (Network, error) {
	nw := Network{Name: name}
	if err := decode(value, &nw); err != nil {
		return Network{}, err
	}
	if nw.VNI == 0 || nw.VNI > lastVNI {
		return Network{}, fmt.Errorf("%w: VNI %d", errRecord, nw.VNI)
	}
	if nw.MTU != 0 && (nw.MTU < minMTU || nw.MTU > maxMTU) {
		return Network{}, fmt.Errorf("%w: MTU %d", errRecord, nw.MTU)
	}
	for i, s := range nw.Subnets {
		isOutside := s.Gateway.IsValid() && !s.Subnet.Contains(s.Gateway)
		if !s.Subnet.IsValid() || s.Subnet != s.Subnet.Masked() || isOutside {
			return Network{}, fmt.Errorf("%w: subnet %s", errRecord, s)
		}
		for _, other := range nw.Subnets[:i] {
			if other.Subnet.Addr().Is4() == s.Subnet.Addr().Is4() {
				return Network{}, fmt.Errorf("%w: two subnets of one family: %s and %s", errRecord, other, s)
			}
		}
	}
	return nw, nil
}

func (k keys) parseEndpoint(network, key string, value []byte) (Endpoint, error) {
	host, id, ok := strings.Cut(strings.TrimPrefix(key, k.endpoints(network)), "/")
	if !ok || !recordID.MatchString(host) || !recordID.MatchString(id) {
		return Endpoint{}, fmt.Errorf("%w: it is of no host", errRecord)
	}
	ep := Endpoint{ID: id, Network: network, Host: host}
	if err := decode(value, &ep); err != nil {
		return Endpoint{}, err
	}
	if ep.MAC.IsZero() || !ep.MAC.IsUnicast() {
		return Endpoint{}, fmt.Errorf("%w: MAC %s", errRecord, ep.MAC)
	}
	return ep, nil
}

// encode returns a record's value, as whoever looks into etcd reads it best: < and & are left as they are.
func encode(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // only a type that JSON can't express, which none of the records is
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
