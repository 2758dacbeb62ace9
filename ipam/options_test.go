// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"net/netip"
	"testing"
)

func TestNewRefusesOptions(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"no store":               func(o *Options) { o.Store = nil },
		"no log":                 func(o *Options) { o.Log = nil },
		"no routes":              func(o *Options) { o.Routes = nil },
		"IPv6 range for IPv4":    func(o *Options) { o.RangeV4 = netip.MustParsePrefix("fd00::/48") },
		"range with host bits":   func(o *Options) { o.RangeV4 = netip.MustParsePrefix("10.32.0.1/12") },
		"range smaller than /22": func(o *Options) { o.RangeV4 = netip.MustParsePrefix("10.32.0.0/23") },
		"subnets too small":      func(o *Options) { o.SubnetBits = MaxSubnetBits + 1 },
		"subnets too large": func(o *Options) {
			o.RangeV4, o.SubnetBits = netip.MustParsePrefix("64.0.0.0/4"), MinSubnetBits-1
		},
		"negative subnets":          func(o *Options) { o.SubnetBits = -1 },
		"multicast range":           func(o *Options) { o.RangeV4 = netip.MustParsePrefix("224.0.0.0/8") },
		"range with loopback":       func(o *Options) { o.RangeV4 = netip.MustParsePrefix("126.0.0.0/7") },
		"IPv4 range for IPv6":       func(o *Options) { o.RangeV6 = netip.MustParsePrefix("10.0.0.0/8") },
		"IPv4 in IPv6":              func(o *Options) { o.RangeV6 = netip.MustParsePrefix("::ffff:0:0/96") },
		"link-local range":          func(o *Options) { o.RangeV6 = netip.MustParsePrefix("fe80::/10") },
		"IPv6 range too small":      func(o *Options) { o.RangeV6 = netip.MustParsePrefix("fd00::/65") },
		"IPv6 range with host bits": func(o *Options) { o.RangeV6 = netip.MustParsePrefix("fd00::1/48") },
	} {
		o := Options{Store: &faultyStore{}, Log: quiet(), Routes: noRoutes}
		if _, err := New(o); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCallsBeforeLoadAreRefused(t *testing.T) {
	i, err := New(Options{Store: &faultyStore{}, Log: quiet(), Routes: noRoutes})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, err1 := i.RequestPool(ctx, PoolRequest{Space: LocalSpace})
	_, err2 := i.RequestAddress(ctx, "weavelocal/10.0.0.0/8", netip.Addr{})
	err3 := i.ReleasePool(ctx, "weavelocal/10.0.0.0/8")
	err4 := i.ReleaseAddress(ctx, "weavelocal/10.0.0.0/8", netip.MustParseAddr("10.0.0.1"))
	_, err5 := i.Forget(ctx, LocalSpace, nil, epoch)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if !errors.Is(err, errNotLoaded) {
			t.Errorf("%v: want %v", err, errNotLoaded)
		}
	}
}

// TestLimitsAreAccepted makes an IPAM at each end of what the options allow.
func TestLimitsAreAccepted(t *testing.T) {
	for _, o := range []Options{
		{RangeV4: netip.MustParsePrefix("10.0.0.0/8"), SubnetBits: MinSubnetBits},
		{RangeV4: netip.MustParsePrefix("10.32.0.0/29"), SubnetBits: MaxSubnetBits},
		{RangeV6: netip.MustParsePrefix("fd00::/64")},
	} {
		o.Store, o.Log, o.Routes = memoryStore{}, quiet(), noRoutes
		if _, err := New(o); err != nil {
			t.Error(err)
		}
	}
}
