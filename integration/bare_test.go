// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/weaveplugin/weave/integration/lab"
)

// bareHosts are test hosts of one cluster, without Docker, behind a switch. They have one network in common. The tests
// make Docker's calls themselves, and do what Docker does with the answers: so a thousand endpoints take no longer than
// a minute.
type bareHosts struct {
	hosts
	network *lab.Switch
	subnet  netip.Prefix
	bare    []*bareHost
}

// bareHost is a host without Docker.
type bareHost struct {
	*lab.Host
	calls     *lab.Caller
	subnet    netip.Prefix
	networkID string
	poolID    string
	endpoints []*bareEndpoint
}

// bareNetwork is the network that bare hosts are on.
const bareNetwork = "app"

// startBareHosts starts n hosts, an etcd, and a network with the subnet. The oracle looks at them when t ends.
func startBareHosts(t *testing.T, n int, subnet netip.Prefix) *bareHosts {
	t.Helper()
	u, sw := lab.NewSwitch(t, outside)
	c := &bareHosts{network: sw, subnet: subnet, hosts: hosts{etcd: u.StartEtcd(t)}}
	c.engines = c.bareNetworks
	for i := range n {
		address := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}), 24)
		h := lab.Start(t, lab.Options{Name: fmt.Sprintf("host%d", i+1), NoDocker: true, Underlay: u, Address: address})
		p := h.StartPlugin(t, "--cluster", c.etcd.Address(), "--cluster-lease", "3s", "--docker-socket", "none")
		b := &bareHost{Host: h, calls: h.Caller(), subnet: subnet}
		b.join(t)
		c.all, c.plugins, c.bare = append(c.all, h), append(c.plugins, p), append(c.bare, b)
	}
	t.Cleanup(func() { c.check(t, "at the end") })
	return c
}

// bareNetworks says what the engine of a host would have.
func (c *bareHosts) bareNetworks(h *lab.Host) ([]engineNetwork, error) {
	b := c.bare[slices.Index(c.all, h)]
	nw := engineNetwork{ID: b.networkID, Cluster: bareNetwork}
	for _, e := range b.endpoints {
		nw.Endpoints = append(nw.Endpoints, attached{ID: e.id, MAC: e.mac, Addresses: []string{e.address.String()}})
	}
	return []engineNetwork{nw}, nil
}

// bareEndpoint is an endpoint in a sandbox of its own.
type bareEndpoint struct {
	host    *bareHost
	id      string
	sandbox string // its name below /run/netns
	mac     string
	address netip.Prefix
	icmp    net.PacketConn // in the sandbox
	pings   uint16         // that were sent
}

// call makes one of Docker's calls.
func (h *bareHost) call(call string, request, response any) error {
	return h.calls.Call(context.Background(), call, request, response)
}

// isServed is nil if weave listens. It is no call: what Docker asks first would tell weave that Docker has started
// again.
func (h *bareHost) isServed() error {
	conn, err := net.Dial("unix", h.Path(lab.PluginSocket))
	if err != nil {
		return err
	}
	return conn.Close()
}

// join makes the host's part of the network.
func (h *bareHost) join(t *testing.T) {
	t.Helper()
	var pool dockeripam.RequestPoolResponse
	options := map[string]string{"works.weave.network": bareNetwork}
	err := h.call("IpamDriver.RequestPool", dockeripam.RequestPoolRequest{
		AddressSpace: "weavelocal", Pool: h.subnet.String(), Options: options,
	}, &pool)
	if err != nil {
		t.Fatal(err)
	}
	h.networkID, h.poolID = lab.NewID(), pool.PoolID
	err = h.call("NetworkDriver.CreateNetwork", network.CreateNetworkRequest{
		NetworkID: h.networkID,
		IPv4Data:  []*network.IPAMData{{AddressSpace: "weavelocal", Pool: pool.Pool}},
		Options: map[string]any{
			"com.docker.network.enable_ipv6": false, "com.docker.network.internal": true,
			"com.docker.network.generic": options,
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// request requests an address: any, or the one that is named.
func (h *bareHost) request(name netip.Addr) (netip.Prefix, error) {
	r := dockeripam.RequestAddressRequest{PoolID: h.poolID}
	if name.IsValid() {
		r.Address = name.String()
	}
	var answer dockeripam.RequestAddressResponse
	if err := h.call("IpamDriver.RequestAddress", r, &answer); err != nil {
		return netip.Prefix{}, err
	}
	return netip.ParsePrefix(answer.Address)
}

func (h *bareHost) release(address netip.Addr) error {
	return h.call("IpamDriver.ReleaseAddress",
		dockeripam.ReleaseAddressRequest{PoolID: h.poolID, Address: address.String()}, nil)
}

// add makes an endpoint, as `docker run` does. It is lab.ErrRefused if the plugin hands out no address. A container
// starts later than the bridge forwards for it: what is sent before is lost, and ARP tries again only after a second.
func (h *bareHost) add() error {
	address, err := h.request(netip.Addr{})
	if err != nil {
		return err
	}
	e := &bareEndpoint{host: h, id: lab.NewID(), address: address}
	e.sandbox = "s" + e.id[:8]
	h.endpoints = append(h.endpoints, e)
	var made network.CreateEndpointResponse
	var joined network.JoinResponse
	err = h.call("NetworkDriver.CreateEndpoint", network.CreateEndpointRequest{
		NetworkID: h.networkID, EndpointID: e.id, Interface: &network.EndpointInterface{Address: address.String()},
	}, &made)
	if err == nil {
		e.mac = made.Interface.MacAddress
		err = h.call("NetworkDriver.Join", network.JoinRequest{
			NetworkID: h.networkID, EndpointID: e.id, SandboxKey: "/run/netns/" + e.sandbox,
		}, &joined)
	}
	if err == nil {
		_, err = h.ExecErr("sh", "-ec", fmt.Sprintf(`ip netns add %[1]s
			ip link set %[2]s netns %[1]s name eth0
			ip -n %[1]s address add %[3]s dev eth0
			ip -n %[1]s link set lo up
			ip -n %[1]s link set eth0 up
			until bridge link show dev %[4]s | grep -q 'state forwarding'; do :; done`,
			e.sandbox, joined.InterfaceName.SrcName, address, "wve-"+e.id[:11]))
	}
	if err == nil {
		err = lab.Inside(h.Path("/run/netns/"+e.sandbox), func() (err error) {
			e.icmp, err = net.ListenPacket("ip4:icmp", "0.0.0.0")
			return err
		})
	}
	if err != nil { // not %w: it is not the address that is refused
		return fmt.Errorf("make an endpoint with the address %s: %v", address, err)
	}
	return nil
}

// remove removes the host's endpoint at an index, as `docker rm -f` does.
func (h *bareHost) remove(i int) error {
	e := h.endpoints[i]
	h.endpoints = slices.Delete(h.endpoints, i, i+1)
	err := e.icmp.Close()
	if err == nil {
		err = h.call("NetworkDriver.Leave", network.LeaveRequest{NetworkID: h.networkID, EndpointID: e.id}, nil)
	}
	if err == nil {
		_, err = h.ExecErr("ip", "netns", "delete", e.sandbox)
	}
	if err == nil {
		err = h.call("NetworkDriver.DeleteEndpoint",
			network.DeleteEndpointRequest{NetworkID: h.networkID, EndpointID: e.id}, nil)
	}
	if err == nil {
		err = h.release(e.address.Addr())
	}
	if err != nil {
		return fmt.Errorf("remove the endpoint with the address %s: %v", e.address, err)
	}
	return nil
}

// endpointIDs returns the ids of the host's endpoints, sorted.
func (h *bareHost) endpointIDs() []string {
	var ids []string
	for _, e := range h.endpoints {
		ids = append(ids, e.id)
	}
	slices.Sort(ids)
	return ids
}

// ping sends a full-size ping and returns nil if the answer comes within the time.
func (e *bareEndpoint) ping(to *bareEndpoint, within time.Duration) error {
	e.pings++
	request := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Seq: int(e.pings), Data: make([]byte, fullPing)}}
	b, err := request.Marshal(nil)
	if err != nil {
		return err
	}
	if err := e.icmp.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	address := &net.IPAddr{IP: to.address.Addr().AsSlice()}
	if _, err := e.icmp.WriteTo(b, address); err != nil {
		return err
	}
	for answer := make([]byte, len(b)); ; { // pings of others are among what comes, too, and late answers
		n, from, err := e.icmp.ReadFrom(answer)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(1, answer[:n])
		echo, ok := (*icmp.Echo)(nil), false
		if err == nil && m.Type == ipv4.ICMPTypeEchoReply {
			echo, ok = m.Body.(*icmp.Echo)
		}
		if ok && from.String() == address.String() && echo.Seq == int(e.pings) {
			return nil
		}
	}
}

// fullPing is how many bytes of data make a ping as large as the network's MTU, 1450.
const fullPing = 1450 - 28
