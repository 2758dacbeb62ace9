// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"fmt"
	"net/netip"
)

// BuiltinPools are what Docker takes subnets of networks on one host from, unless it is configured otherwise: see
// localScopeDefaultNetworks in moby's libnetwork/ipamutils.
func BuiltinPools() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("172.18.0.0/15"),
		netip.MustParsePrefix("172.20.0.0/14"), netip.MustParsePrefix("172.24.0.0/13"),
		netip.MustParsePrefix("192.168.0.0/16"),
	}
}

// DefaultPools returns what Docker takes subnets of networks on one host from: the default-address-pools of its
// configuration, or BuiltinPools if it has none there, and until its API could be read.
func (w *Watcher) DefaultPools() []netip.Prefix {
	if pools := w.pools.Load(); pools != nil {
		return *pools
	}
	return BuiltinPools()
}

// readPools reads DefaultPools anew. They change only with a restart of Docker. If it can't read them it keeps those
// that it has.
func (w *Watcher) readPools(ctx context.Context, s session) {
	pools, err := s.defaultPools(ctx)
	if err != nil {
		w.log.WithError(err).Warn("docker's default address pools can't be read: weave might choose a subnet of them")
		return
	}
	if pools == nil {
		pools = BuiltinPools()
	}
	w.pools.Store(&pools)
}

// defaultPools returns the default address pools of Docker's configuration, nil if there are none.
func (s session) defaultPools(ctx context.Context) ([]netip.Prefix, error) {
	var info struct{ DefaultAddressPools []struct{ Base string } }
	if err := s.get(ctx, "/info", &info); err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, pool := range info.DefaultAddressPools {
		base, err := netip.ParsePrefix(pool.Base)
		if err != nil {
			return nil, fmt.Errorf("default address pool of docker's: %w", err)
		}
		out = append(out, base.Masked())
	}
	return out, nil
}
