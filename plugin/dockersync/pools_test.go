// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"net/netip"
	"slices"
	"testing"
)

func TestDefaultPools(t *testing.T) {
	for _, c := range []struct {
		name, info string // empty: no answer
		want       []netip.Prefix
	}{
		{"none configured", `{"Containers":3}`, BuiltinPools()},
		{"configured", `{"DefaultAddressPools":[{"Base":"10.200.0.0/16","Size":24},{"Base":"fd07::/48","Size":64}]}`,
			[]netip.Prefix{netip.MustParsePrefix("10.200.0.0/16"), netip.MustParsePrefix("fd07::/48")}},
		{"host bits", `{"DefaultAddressPools":[{"Base":"10.200.0.1/16","Size":24}]}`,
			[]netip.Prefix{netip.MustParsePrefix("10.200.0.0/16")}},
		{"malformed", `{"DefaultAddressPools":[{"Base":"10.200.0.0","Size":24}]}`, BuiltinPools()},
		{"not to be had", "", BuiltinPools()},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newFakeDocker(t)
			d.set("/info", c.info)
			d.start()
			w, _ := newWatcher(d)
			if got := w.DefaultPools(); !slices.Equal(got, BuiltinPools()) {
				t.Errorf("before the first reading: %v, want %v", got, BuiltinPools())
			}
			run(t, w)
			eventually(t, "first reading", func() bool { return w.Reachable() == nil })
			if got := w.DefaultPools(); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
