package driver

import (
	"net/netip"
	"slices"
)

// Vacant reports that an address of a network's pool is nobody's: it is neither the gateway nor reserved, and no endpoint
// that has it is living. IPAM may then hand it out though it still counts it as held: Docker forgets endpoints without
// releasing their addresses when it was killed. Of a pool that no network has nothing is said: false.
func (d *Driver) Vacant(space string, subnet netip.Prefix, addr netip.Addr) bool {
	known := false
	for _, nw := range d.Networks() {
		i := slices.IndexFunc(nw.Pools, func(p Pool) bool { return p.Space == space && p.Subnet == subnet })
		if i < 0 {
			continue
		}
		known = true
		if p := nw.Pools[i]; p.Gateway == addr || slices.Contains(p.Reserved, addr) {
			return false
		}
		for _, ep := range d.endpointsOf(nw.ID) {
			if !slices.ContainsFunc(ep.Addresses, func(a netip.Prefix) bool { return a.Addr() == addr }) {
				continue
			}
			if alive, err := d.living(ep); alive || err != nil {
				return false
			}
		}
	}
	return known
}
