// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// What the oracle looks at in etcd.

// etcdView is what etcd has below the prefix, as docs/cluster.md says.
type etcdView struct {
	Hosts     map[string]etcdHost // by id
	Holders   map[string]etcdHost
	Networks  map[string]etcdNetwork
	VNIs      map[string]string                // network
	Members   map[string][]string              // ids by network
	Blocks    map[string]map[string]string     // id by network, by block
	Endpoints map[string]map[string][]attached // by network, by id
	MACs      map[string]map[string]string     // that users named: HOST/ENDPOINT by network, by MAC
	Strange   []string                         // keys that are none of these
}

type etcdHost struct{ Name, VTEP string }

type etcdNetwork struct {
	VNI, MTU int
	Subnets  []struct{ Subnet, Gateway string }
}

// viewOf reads the records of etcd.
func viewOf(records map[string]string, prefix string) (etcdView, error) {
	v := etcdView{
		Hosts: map[string]etcdHost{}, Holders: map[string]etcdHost{}, Networks: map[string]etcdNetwork{},
		VNIs: map[string]string{}, Members: map[string][]string{}, Blocks: map[string]map[string]string{},
		Endpoints: map[string]map[string][]attached{}, MACs: map[string]map[string]string{},
	}
	for key, value := range records {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		part := strings.Split(rest, "/")
		var err error
		switch {
		case kind == "hosts" && len(part) == 1:
			v.Hosts[rest], err = parsed[etcdHost](value)
		case kind == "holders" && len(part) == 1:
			v.Holders[rest], err = parsed[etcdHost](value)
		case kind == "networks" && len(part) == 1:
			v.Networks[rest], err = parsed[etcdNetwork](value)
		case kind == "vnis" && len(part) == 1:
			v.VNIs[rest] = value
		case kind == "members" && len(part) == 2:
			v.Members[part[0]] = append(v.Members[part[0]], part[1])
		case kind == "wanted" && len(part) == 1:
		case kind == "macs" && len(part) == 2:
			if v.MACs[part[0]] == nil {
				v.MACs[part[0]] = map[string]string{}
			}
			v.MACs[part[0]][part[1]] = value
		case kind == "blocks" && (len(part) == 2 || len(part) == 3):
			if v.Blocks[part[0]] == nil {
				v.Blocks[part[0]] = map[string]string{}
			}
			v.Blocks[part[0]][strings.Join(part[1:], "/")] = value
		case kind == "endpoints" && len(part) == 3:
			var e attached
			if e, err = parsed[attached](value); err == nil {
				e.ID = part[2]
				if v.Endpoints[part[0]] == nil {
					v.Endpoints[part[0]] = map[string][]attached{}
				}
				v.Endpoints[part[0]][part[1]] = append(v.Endpoints[part[0]][part[1]], e)
			}
		default:
			v.Strange = append(v.Strange, key)
		}
		if err != nil {
			return v, fmt.Errorf("key %s: %w", key, err)
		}
	}
	return v, nil
}

func parsed[T any](text string) (v T, err error) {
	err = json.Unmarshal([]byte(text), &v)
	return v, err
}

// check checks what is in etcd by itself.
func (v etcdView) check(w *findings) {
	for _, key := range v.Strange {
		w.add("etcd has the key %s", key)
	}
	for name, nw := range v.Networks {
		w.differ("etcd: the network of VNI "+strconv.Itoa(nw.VNI), v.VNIs[strconv.Itoa(nw.VNI)], name)
		if len(v.Members[name]) == 0 {
			w.add("etcd: network %s has no members", name)
		}
	}
	w.differ("etcd: how many VNIs are taken", len(v.VNIs), len(v.Networks))
	known := func(what, network string) {
		if _, ok := v.Networks[network]; !ok {
			w.add("etcd has %s of network %s, but not the network", what, network)
		}
	}
	for network, members := range v.Members {
		known("members", network)
		for _, id := range members {
			if _, ok := v.Holders[id]; !ok {
				w.add("etcd: host %s is on network %s, but is not known", id, network)
			}
		}
	}
	for network := range v.Blocks {
		known("blocks", network)
		v.checkBlocks(w, network)
	}
	for network, macs := range v.MACs {
		known("MACs", network)
		for mac, value := range macs {
			host, _, _ := strings.Cut(value, "/")
			if !slices.Contains(v.Members[network], host) {
				w.add("etcd: host %s has MAC %s of network %s, on which it is not", host, mac, network)
			}
		}
	}
	for network := range v.Endpoints {
		known("endpoints", network)
		v.checkEndpoints(w, network)
	}
}

// checkBlocks checks that who holds something is on the network, and that nobody holds an address of a block that
// another one has as a whole.
func (v etcdView) checkBlocks(w *findings, network string) {
	for block, id := range v.Blocks[network] {
		if !slices.Contains(v.Members[network], id) {
			w.add("etcd: host %s holds block %s of network %s, on which it is not", id, block, network)
		}
		whole, _, isSingle := strings.Cut(block, "/")
		if holder, ok := v.Blocks[network][whole]; isSingle && ok {
			w.add("etcd: host %s holds the address %s of network %s, of which host %s holds the block",
				id, block, network, holder)
		}
	}
}

// checkEndpoints checks that each endpoint is of a host that is there and holds its addresses, and that no two have one
// address or one MAC.
func (v etcdView) checkEndpoints(w *findings, network string) {
	owners := map[string]string{}
	for id, endpoints := range v.Endpoints[network] {
		if _, ok := v.Hosts[id]; !ok {
			w.add("etcd has endpoints of host %s, which is not there", id)
		}
		for _, e := range endpoints {
			if claim, ok := v.MACs[network][e.MAC]; ok && claim != id+"/"+e.ID {
				w.add("etcd: endpoint %s of host %s has MAC %s, which is claimed for %s", e.ID, id, e.MAC, claim)
			}
			for _, thing := range append(slices.Clone(e.Addresses), e.MAC) {
				if other, ok := owners[thing]; ok {
					w.add("etcd: endpoints %s and %s of network %s have %s", other, e.ID, network, thing)
				}
				owners[thing] = e.ID
			}
			for _, a := range e.Addresses {
				if holder := v.holder(network, a); holder != id {
					w.add("etcd: endpoint %s of host %s has %s, which host %q holds", e.ID, id, a, holder)
				}
			}
		}
	}
}

// holder returns the id of the host that holds an address.
func (v etcdView) holder(network, address string) string {
	addr := netip.MustParsePrefix(address).Addr()
	for _, s := range v.Networks[network].Subnets {
		subnet := netip.MustParsePrefix(s.Subnet)
		if !subnet.Contains(addr) {
			continue
		}
		// At least 64 blocks, of at most 256 addresses.
		size := min(max(addr.BitLen()-subnet.Bits()-6, 0), 8)
		whole := netip.PrefixFrom(addr, addr.BitLen()-size).Masked().Addr()
		key := fmt.Sprintf("%x", whole.AsSlice())
		if id, ok := v.Blocks[network][key]; ok {
			return id
		}
		return v.Blocks[network][fmt.Sprintf("%s/%x", key, addr.AsSlice())]
	}
	return ""
}
