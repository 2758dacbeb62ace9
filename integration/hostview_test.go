// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/integration/lab"
)

// What the oracle looks at besides etcd.

// kernelView is what ip and bridge list on a host.
type kernelView struct {
	Links      []ipLink
	FDB        []bridgeRow
	Neighbours []ipNeighbour
}

type ipLink struct {
	Name   string `json:"ifname"`
	Alias  string `json:"ifalias"`
	Master string
	MTU    int
	Flags  []string
	Info   struct {
		Kind string `json:"info_kind"`
		Data struct {
			ID       int // VNI
			Local    string
			Learning bool
		} `json:"-"` // other kinds have other things by these names
	} `json:"linkinfo"`
}

// UnmarshalJSON reads the data of VXLAN devices alone.
func (l *ipLink) UnmarshalJSON(b []byte) error {
	type plain ipLink
	if err := json.Unmarshal(b, (*plain)(l)); err != nil || l.Info.Kind != "vxlan" {
		return err
	}
	data := struct {
		Info struct {
			Data any `json:"info_data"`
		} `json:"linkinfo"`
	}{}
	data.Info.Data = &l.Info.Data
	return json.Unmarshal(b, &data)
}

// kind and id are what a link's alias says that it is of: "weave:STATE:KIND:ID".
func (l ipLink) kind() string { return l.part(2) }
func (l ipLink) id() string   { return l.part(3) }

func (l ipLink) part(i int) string {
	if part := strings.Split(l.Alias, ":"); len(part) == 4 && part[0] == "weave" {
		return part[i]
	}
	return ""
}

type bridgeRow struct {
	MAC    string
	Device string `json:"ifname"`
	Dst    string
	Flags  []string
	Master string
	State  string
}

type ipNeighbour struct {
	Address string   `json:"dst"`
	Device  string   `json:"dev"`
	MAC     string   `json:"lladdr"`
	State   []string // such as PERMANENT
}

// bridgeOf returns the bridge of a network, by its id.
func (k kernelView) bridgeOf(network string) (string, bool) {
	for _, l := range k.Links {
		if l.Info.Kind == "bridge" && l.kind() == "network" && l.id() == network {
			return l.Name, true
		}
	}
	return "", false
}

// rows returns all rows that lead to other hosts, and those that answer for their endpoints.
func (k kernelView) rows(device, bridge string) []string {
	var rows []string
	for _, r := range k.FDB {
		isOwn := r.State == "permanent" && r.Master != "" && !slices.Contains(r.Flags, "extern_learn") // the link's MAC
		switch {
		case r.Device != device || device == "" || isOwn:
		case r.Dst != "" && r.MAC == "00:00:00:00:00:00":
			rows = append(rows, "flood to "+r.Dst)
		case r.Dst != "":
			rows = append(rows, fmt.Sprintf("tunnel %s to %s", r.MAC, r.Dst))
		case r.Master != "":
			rows = append(rows, "port "+r.MAC)
		}
	}
	for _, n := range k.Neighbours {
		if n.Device == bridge && slices.Contains(n.State, "PERMANENT") {
			rows = append(rows, fmt.Sprintf("neighbour %s at %s", n.Address, n.MAC))
		}
	}
	slices.Sort(rows)
	return rows
}

// engines returns the networks of weave's that the engine of a host has.
type engines func(h *lab.Host) ([]engineNetwork, error)

// look takes a snapshot.
func (c *hosts) look() (snapshot, error) {
	const prefix = "weave/"
	records, err := c.etcd.All(prefix)
	if err != nil {
		return snapshot{}, err
	}
	var s snapshot
	if s.etcd, err = viewOf(records, prefix); err != nil {
		return s, err
	}
	for i, h := range c.all {
		if !h.IsOn() {
			continue
		}
		v := hostView{name: h.Name(), running: c.plugins == nil || c.plugins[i].IsRunning()}
		if v.networks, err = c.engines(h); err != nil {
			return s, err
		}
		if v.kernel, err = lookAtKernel(h); err != nil {
			return s, err
		}
		s.hosts = append(s.hosts, v)
	}
	return s, nil
}

func lookAtKernel(h *lab.Host) (v kernelView, err error) {
	for _, list := range []struct {
		into    any
		command string
	}{{&v.Links, "ip -j -d link"}, {&v.FDB, "bridge -j fdb"}, {&v.Neighbours, "ip -j neigh"}} {
		args := strings.Fields(list.command)
		out, err := h.ExecErr(args[0], args[1:]...)
		if err == nil {
			err = json.Unmarshal([]byte(out), list.into)
		}
		if err != nil {
			return v, fmt.Errorf("%s: %s: %w", h.Name(), list.command, err)
		}
	}
	return v, nil
}

// dockerNetworks returns the networks of weave's that a host's Docker has.
func dockerNetworks(h *lab.Host) ([]engineNetwork, error) { return networksOfDriver(h, "weave") }

// networksOfDriver returns the networks of a driver that a host's Docker has.
func networksOfDriver(h *lab.Host, driver string) ([]engineNetwork, error) {
	const option = "works.weave.network"
	ids, err := h.DockerErr("network", "ls", "-q", "--no-trunc", "--filter", "driver="+driver)
	if err != nil || ids == "" {
		return nil, err
	}
	out, err := h.DockerErr(append([]string{"network", "inspect"}, strings.Fields(ids)...)...)
	if err != nil {
		return nil, err
	}
	networks, err := parsed[[]struct {
		ID, Scope  string
		Options    map[string]string
		IPAM       struct{ Options map[string]string }
		Containers map[string]struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }
	}](out)
	if err != nil {
		return nil, fmt.Errorf("%s: docker network inspect: %w", h.Name(), err)
	}
	var found []engineNetwork
	for _, nw := range networks {
		if nw.Scope == "swarm" && len(nw.Containers) == 0 {
			continue // a manager lists those that its own node is not on, too
		}
		n := engineNetwork{ID: nw.ID, Cluster: nw.Options[option] + nw.IPAM.Options[option]}
		if n.Cluster == "" && nw.Scope == "swarm" {
			n.Cluster = nw.ID
		}
		for _, c := range nw.Containers {
			e := attached{ID: c.EndpointID, Container: c.Name, MAC: c.MacAddress}
			for _, a := range []string{c.IPv4Address, c.IPv6Address} {
				if a != "" {
					e.Addresses = append(e.Addresses, a)
				}
			}
			n.Endpoints = append(n.Endpoints, e)
		}
		found = append(found, n)
	}
	return found, nil
}
