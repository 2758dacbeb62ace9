// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/integration/lab"
)

// The oracle says what is wrong with a cluster, from what etcdctl, ip, bridge and Docker tell. It has no line in
// common with weave: what it expects is what docs/cluster.md promises.

// snapshot is what there is of a cluster.
type snapshot struct {
	etcd  etcdView
	hosts []hostView // that have power
}

// attachment of a container, as its engine knows it. MAC and addresses are as they are printed.
type attached struct {
	ID, Container, MAC string
	Addresses          []string // with the length of the subnet
}

// engineNetwork is a network of weave's on one host, as its engine knows it.
type engineNetwork struct {
	ID        string
	Cluster   string // its name in the cluster; empty: it is the host's alone
	Endpoints []attached
}

// hostView is what there is on a host.
type hostView struct {
	name     string
	running  bool // weave is
	networks []engineNetwork
	kernel   kernelView
}

// wrong returns what is wrong, a line each.
func (s snapshot) wrong() []string {
	w := &findings{}
	s.etcd.check(w)
	present := map[string]string{} // id by name
	for id, h := range s.etcd.Hosts {
		if other, ok := present[h.Name]; ok {
			w.add("etcd has host %s twice: %s, %s", h.Name, other, id)
		}
		present[h.Name] = id
	}
	for _, h := range s.hosts {
		id, ok := present[h.name]
		if !ok {
			if h.running {
				w.add("%s: weave runs, but is not in etcd", h.name)
			}
			continue
		}
		if !h.running {
			w.add("%s: weave does not run, but is in etcd", h.name)
			continue
		}
		s.checkEngine(w, h, id)
		s.checkKernel(w, h, id)
		delete(present, h.name)
	}
	for name := range present {
		w.add("etcd has host %s, which is off", name)
	}
	slices.Sort(w.lines)
	return w.lines
}

type findings struct{ lines []string }

func (w *findings) add(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

// differ adds how what there is differs from what there should be.
func (w *findings) differ(what string, is, should any) {
	if diff := cmp.Diff(should, is); diff != "" {
		w.add("%s (-should +is):\n%s", what, diff)
	}
}

// checkEngine compares a host's engine with etcd.
func (s snapshot) checkEngine(w *findings, h hostView, id string) {
	var should, is []string
	for _, nw := range h.networks {
		if nw.Cluster != "" {
			should = append(should, nw.Cluster)
		}
	}
	for name, members := range s.etcd.Members {
		if slices.Contains(members, id) {
			is = append(is, name)
		}
	}
	slices.Sort(should)
	slices.Sort(is)
	w.differ(h.name+": its networks in etcd, against those that its engine has", is, should)
	for _, nw := range h.networks {
		if nw.Cluster != "" {
			what := fmt.Sprintf("%s: its endpoints of %s in etcd, against its engine's", h.name, nw.Cluster)
			w.differ(what, byID(s.etcd.Endpoints[nw.Cluster][id]), byID(nw.Endpoints))
		}
	}
}

func byID(endpoints []attached) map[string]attached {
	out := map[string]attached{}
	for _, e := range endpoints {
		out[e.ID] = e
	}
	return out
}

// checkKernel compares a host's links and tables with what its engine and etcd have.
func (s snapshot) checkKernel(w *findings, h hostView, id string) {
	ends, tunnels := map[string]string{}, map[string]bool{} // bridge by endpoint; VXLAN devices
	for _, l := range h.kernel.Links {
		if l.kind() == "endpoint" && strings.HasPrefix(l.Name, "wve-") {
			ends[l.id()] = l.Master
		}
		if strings.HasPrefix(l.Name, "wvc-") {
			w.add("%s: link %s is in no container", h.name, l.Name)
		}
		if strings.HasPrefix(l.Name, "wvx-") {
			tunnels[l.Name] = true
		}
	}
	for _, nw := range h.networks {
		bridge, ok := h.kernel.bridgeOf(nw.ID)
		if !ok {
			w.add("%s: network %s has no bridge", h.name, nw.ID)
			continue
		}
		for _, e := range nw.Endpoints {
			if master, ok := ends[e.ID]; !ok || master != bridge {
				w.add("%s: the host end of endpoint %s is on bridge %q, want %s", h.name, e.ID, master, bridge)
			}
			delete(ends, e.ID)
		}
		if nw.Cluster != "" {
			delete(tunnels, s.checkTunnel(w, h, id, nw, bridge))
		}
	}
	for e := range ends {
		w.add("%s: there is a host end of endpoint %s, which its engine has not", h.name, e)
	}
	for name := range tunnels {
		w.add("%s: VXLAN device %s is of no network", h.name, name)
	}
}

// checkTunnel checks the VXLAN device of a network and the tables, and returns the device's name; empty: there is none.
func (s snapshot) checkTunnel(w *findings, h hostView, id string, nw engineNetwork, bridge string) string {
	what := fmt.Sprintf("%s: network %s", h.name, nw.Cluster)
	var device ipLink
	for _, l := range h.kernel.Links {
		if l.Info.Kind == "vxlan" && l.id() == nw.ID {
			device = l
		}
	}
	record := s.etcd.Networks[nw.Cluster]
	type settings struct {
		VNI, MTU      int
		Local, Bridge string
		Learning, Up  bool
	}
	w.differ(what+": its VXLAN device",
		settings{device.Info.Data.ID, device.MTU, device.Info.Data.Local, device.Master, device.Info.Data.Learning,
			slices.Contains(device.Flags, "UP")},
		settings{record.VNI, record.MTU, s.etcd.Hosts[id].VTEP, bridge, false, true})
	w.differ(what+": the tables", h.kernel.rows(device.Name, bridge), s.etcd.rowsFor(id, nw.Cluster))
	return device.Name
}

// rowsFor returns the rows that a host needs for a network's endpoints on the other hosts.
func (v etcdView) rowsFor(id, network string) []string {
	rows := map[string]bool{}
	for host, endpoints := range v.Endpoints[network] {
		if host == id {
			continue
		}
		vtep := v.Hosts[host].VTEP
		for _, e := range endpoints {
			rows["flood to "+vtep] = true
			rows[fmt.Sprintf("tunnel %s to %s", e.MAC, vtep)] = true
			rows["port "+e.MAC] = true
			for _, a := range e.Addresses {
				rows[fmt.Sprintf("neighbour %s at %s", netip.MustParsePrefix(a).Addr(), e.MAC)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(rows))
}

// check fails t if something is wrong with the cluster that is not put right within the time that weave has for it.
func (c *hosts) check(t *testing.T, when string) {
	t.Helper()
	const limit = 15 * time.Second
	err := lab.Poll(limit, func() error {
		s, err := c.look()
		if err != nil {
			return err
		}
		if wrong := s.wrong(); len(wrong) > 0 {
			return fmt.Errorf("%d findings:\n%s", len(wrong), strings.Join(wrong, "\n"))
		}
		return nil
	})
	if err != nil {
		t.Errorf("the cluster, %s: %v", when, err)
	}
}
