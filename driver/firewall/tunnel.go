// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/wait"
)

// Tunnel is what other hosts send the frames of networks between hosts by. VXLAN knows no sender but the address that a
// packet is from: whoever can send a UDP packet to the port sends frames into any network. So what is from none of the
// hosts is dropped, where it arrives and where it would be routed. The latter is what containers of this host send,
// which has the host's own address when it arrives elsewhere.
type Tunnel struct {
	Port  uint16       // UDP, on all hosts; 0: there is no tunnel, and no rule
	Local netip.Addr   // this host's address that the packets are for
	Hosts []netip.Addr // those of the other hosts, of the same family

	// Probes is the link on which the tunnels are probed; the host itself takes nothing that comes from there.
	Probes string
}

// SetTunnel makes this the tunnel that there are rules for from now on; those about bridges stay. Before the first Set
// it changes no table. After an error Run tries again.
func (f *Firewall) SetTunnel(ctx context.Context, t Tunnel) error {
	if !f.setTunnel(t.normal()) {
		return nil
	}
	if err := f.sync(ctx, logrus.DebugLevel); err != nil {
		wait.Signal(f.changed)
		return fmt.Errorf("set firewall rules of the tunnel: %w", err)
	}
	return nil
}

// setTunnel reports whether the tables have to change.
func (f *Firewall) setTunnel(t Tunnel) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tunnel.equal(t) {
		return false
	}
	f.tunnel = t
	if f.target == nil {
		return false
	}
	with := *f.target
	with.tunnel = t
	f.target = &with
	return true
}

func (t Tunnel) equal(o Tunnel) bool {
	return t.Local == o.Local && t.Port == o.Port && t.Probes == o.Probes && slices.Equal(t.Hosts, o.Hosts)
}

// subjects returns what there have to be rules for. What the probes are in is IPv4, whatever the tunnel is.
func (t Tunnel) subjects(v family) []subject {
	var out []subject
	if t.isOf(v) {
		out = append(out, subject{tunnel: t})
	}
	if t.Probes != "" && v == ipv4 {
		out = append(out, subject{links: t.Probes, probes: true})
	}
	return out
}

// normal returns the tunnel with its hosts in order, each once, without those that no packet can come from.
func (t Tunnel) normal() Tunnel {
	t.Local = t.Local.Unmap()
	var hosts []netip.Addr
	for _, h := range t.Hosts {
		if h = h.Unmap(); h.IsValid() && h.BitLen() == t.Local.BitLen() && h != t.Local {
			hosts = append(hosts, h.WithZone(""))
		}
	}
	slices.SortFunc(hosts, netip.Addr.Compare)
	t.Hosts = slices.Compact(hosts)
	return t
}

// isOf reports whether the packets are of a family.
func (t Tunnel) isOf(v family) bool { return t.Port != 0 && t.Local.Is4() == (v == ipv4) }

// String returns what tells the tunnel from others. The hosts themselves may be more text than the kernel keeps with a
// rule.
func (t Tunnel) String() string {
	return fmt.Sprintf("tunnel %s from %.8x", netip.AddrPortFrom(t.Local, t.Port), sha256.Sum256(slices.Concat(
		bytesOf(t.Hosts)...)))
}

func bytesOf(hosts []netip.Addr) [][]byte {
	out := make([][]byte, len(hosts))
	for i, h := range hosts {
		out[i] = h.AsSlice()
	}
	return out
}

// keepArriving drops what would be delivered to the tunnel and is not for this host's address in it, or from no other
// host's. The first is about the other addresses of the host, at which the kernel takes packets as well.
func (t Tunnel) keepArriving(v family) [][]expr.Any {
	local := &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: t.Local.AsSlice()}
	return [][]expr.Any{
		slices.Concat(t.packets(), destination(v), []expr.Any{local}, dropped()),
		slices.Concat(t.packets(), source(v), []expr.Any{notFromHosts()}, dropped()),
	}
}

// keepPassing drops what would be routed to another host and is from none. A machine may be the router between hosts,
// or one of tunnels that it is no part of.
func (t Tunnel) keepPassing(v family) [][]expr.Any {
	toHosts := &expr.Lookup{SourceRegister: 1, SetName: hostsSet}
	return one(slices.Concat(t.packets(), destination(v), []expr.Any{toHosts},
		source(v), []expr.Any{notFromHosts(), isBridged(false)}, dropped()))
}

func notFromHosts() expr.Any { return &expr.Lookup{SourceRegister: 1, SetName: hostsSet, Invert: true} }

func dropped() []expr.Any { return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }

// packets matches those for the port.
func (t Tunnel) packets() []expr.Any {
	const portAt, portLen = 2, 2 // of the destination, in UDP's header
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: portAt, Len: portLen, DestRegister: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, t.Port)},
	}
}

// source and destination load the addresses that a packet is from and for.
func source(v family) []expr.Any {
	offset, length := headerSource(v)
	return []expr.Any{
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length, DestRegister: 1},
	}
}

func destination(v family) []expr.Any {
	offset, length := headerSource(v)
	return []expr.Any{
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset + length, Len: length, DestRegister: 1},
	}
}

const (
	hostsSet    = "hosts" // the set of the other hosts' addresses, in weave's own table
	hostsAtOnce = 1000    // what a message holds has less than 64 KiB
)

// hostsOf returns the elements of the set; nil: no rule is about it.
func hostsOf(all []subject) []netip.Addr {
	for _, s := range all {
		if s.tunnel.Port != 0 {
			return append([]netip.Addr{}, s.tunnel.Hosts...)
		}
	}
	return nil
}

// addHosts adds the set, unless hosts is nil. It is constant, so that nobody changes it without its rules, which tell
// by their comments that it is this one.
func addHosts(c *nftables.Conn, t *nftables.Table, hosts []netip.Addr) error {
	if hosts == nil {
		return nil
	}
	set := &nftables.Set{Table: t, Name: hostsSet, Constant: true, KeyType: nftables.TypeIPAddr}
	if t.Family == nftFamilies[ipv6] {
		set.KeyType = nftables.TypeIP6Addr
	}
	if err := c.AddSet(set, nil); err != nil {
		return fmt.Errorf("set of hosts: %w", err)
	}
	for some := range slices.Chunk(hosts, hostsAtOnce) {
		elements := make([]nftables.SetElement, len(some))
		for i, h := range some {
			elements[i].Key = h.AsSlice()
		}
		if err := c.SetAddElements(set, elements); err != nil {
			return fmt.Errorf("set of hosts: %w", err)
		}
	}
	return nil
}
