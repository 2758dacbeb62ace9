// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// underlayAddress is that of the bridge between the test hosts, where etcd is.
var underlayAddress = netip.MustParsePrefix("192.0.2.1/24")

// onUnderlay returns the nth address of the underlay's network.
func onUnderlay(n byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), underlayAddress.Bits())
}

// The networks between the two hosts that are compared.
const (
	weaveNetwork  = "app"  // weave's
	dockerNetwork = "over" // Docker's overlay, which a swarm has
)

// twoHosts are two hosts of one cluster and of one swarm, both on the networks that are compared.
type twoHosts struct {
	underlay *lab.Underlay
	all      [2]*dockerHost
}

// startTwoHosts starts the hosts and makes the networks. There is no name server behind them: the one that containers
// are told to ask refuses at once.
func startTwoHosts(b *testing.B) *twoHosts {
	b.Helper()
	c := &twoHosts{underlay: lab.NewUnderlay(b, underlayAddress)}
	etcd := c.underlay.StartEtcd(b)
	for i := range c.all {
		c.all[i] = startDockerHostWith(b, lab.Options{
			Name: fmt.Sprintf("host%d", i+1), Root: "/", Underlay: c.underlay, Address: onUnderlay(byte(11 + i)),
			DockerArgs: []string{"--dns", underlayAddress.Addr().String()},
		}, "--cluster", etcd.Address())
	}
	lab.JoinSwarm(b, c.all[0].Host, c.all[1].Host)
	c.all[0].Docker(b, "network", "create", "-d", "overlay", "--attachable", dockerNetwork)
	for _, h := range c.all {
		h.Docker(b, "network", "create", "-d", "weave", "--ipam-driver", "weave",
			"--ipam-opt", "works.weave.network="+weaveNetwork, weaveNetwork)
	}
	return c
}

// startOne starts the container of the pair that is on a host, on both networks, and returns its sandbox as this
// machine sees it.
func (c *twoHosts) startOne(b *testing.B, i int) (sandbox string) {
	b.Helper()
	h := c.all[i]
	h.Run(b, "--name", pair[i], "--network", weaveNetwork)
	h.Docker(b, "network", "connect", dockerNetwork, pair[i])
	return h.Path(h.sandboxOf(b, pair[i]))
}

// addressesOn returns the addresses of the two containers on a network.
func (c *twoHosts) addressesOn(b *testing.B, network string) (addresses [2]netip.Addr) {
	b.Helper()
	for i, h := range c.all {
		addresses[i] = h.addressOf(b, pair[i], network)
	}
	return addresses
}

// addressOf returns a container's IPv4 address on a network.
func (e *dockerHost) addressOf(b *testing.B, container, network string) netip.Addr {
	b.Helper()
	var c struct {
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress netip.Addr }
		}
	}
	if err := get(e.api, "http://docker/containers/"+container+"/json", &c); err != nil {
		b.Fatal(err)
	}
	return c.NetworkSettings.Networks[network].IPAddress
}

// dialIn returns a function that connects by TCP from a network namespace, by its path on this machine.
func dialIn(namespace string) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (conn net.Conn, err error) {
		err = lab.Inside(namespace, func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return err
		})
		return conn, err
	}
}
