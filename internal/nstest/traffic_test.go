// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestTraffic(t *testing.T) {
	here, there := New(t), New(t)
	Veth(t, here, there, "eth1", "10.32.0.2/24")
	addTo(t, here, "eth1", "10.32.0.1/24", "10.32.0.9/24", "fd32::1/64")
	addTo(t, there, "eth0", "fd32::2/64")
	for _, tt := range []struct{ name, from, to, rule string }{
		{"IPv4", "10.32.0.1", "10.32.0.2", ""},
		{"IPv6", "fd32::1", "fd32::2", ""},
		{"TCP refused", "10.32.0.1", "10.32.0.2", "filter -I INPUT -p tcp -j DROP"},
		{"UDP refused", "10.32.0.1", "10.32.0.2", "filter -I INPUT -p udp -j DROP"},
		{"large frames refused", "10.32.0.1", "10.32.0.2", "filter -I INPUT -p tcp -m length --length 1000: -j DROP"},
		{"source translated", "10.32.0.1", "10.32.0.2", "nat -I INPUT -j SNAT --to-source 10.32.0.9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limit := time.Minute
			if tt.rule != "" {
				limit = 300 * time.Millisecond // what a rule refuses never passes
				iptables(t, there, "-t "+tt.rule)
				defer iptables(t, there, "-t "+strings.Replace(tt.rule, "-I", "-D", 1))
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err := Traffic(ctx, t, Place{here, netip.MustParseAddr(tt.from)}, Place{there, netip.MustParseAddr(tt.to)})
			if (err != nil) != (tt.rule != "") {
				t.Errorf("Traffic: %v", err)
			}
		})
	}
}

func addTo(t *testing.T, ns *NS, link string, addresses ...string) {
	t.Helper()
	ns.Do(t, func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			if addr.IP.To4() == nil {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(l, addr); err != nil {
				return err
			}
		}
		return nil
	})
}

func iptables(t *testing.T, ns *NS, args string) {
	t.Helper()
	ns.Do(t, func() error { return exec.Command("iptables-nft", strings.Fields(args)...).Run() })
}
