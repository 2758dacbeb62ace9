// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestNoTranslation: a network without NAT for a family keeps its addresses, and is as closed as one with it.
func TestNoTranslation(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRouter(t)
	f, _ := newFirewall(t)
	bridges := withGateways()
	for i, gateway := range bridges[0].Gateways {
		bridges[0].Gateways[i].Masquerade = gateway.Addr().Is6()
	}
	must(t, f.Set(t.Context(), bridges))
	for v, want := range map[family]string{ipv4: "yes", ipv6: "translated"} {
		r.check(t, v, "wvg-1", "uplink", want)
		r.check(t, v, "wvg-2", "uplink", "translated")
		for _, other := range []string{"wvg-2", "br-0123456789ab", "uplink"} {
			r.check(t, v, other, "wvg-1", "no")
		}
	}
}

// TestHostApart: from a bridge whose containers are to be kept from the host none of its addresses is reached, and the
// way out is open all the same.
func TestHostApart(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRouter(t)
	f, _ := newFirewall(t)
	bridges := withGateways()
	bridges[0].HostApart = true
	must(t, f.Set(t.Context(), bridges))
	for _, v := range families {
		for _, network := range []string{"wvg-1", "wvg-2"} {
			for at := range routed {
				to := routedAddr(v, at, 1).Addr()
				if want := network == "wvg-2"; r.reachesHost(t, network, to, want) != want {
					t.Errorf("%s reaches the host at %s: %t, want %t", network, to, !want, want)
				}
			}
			r.check(t, v, network, "uplink", "translated")
		}
	}
	// Without entries that are known already the gateway has to be asked for.
	shell(t, "ip -6 neigh flush dev wvg-1")
	r["wvg-1"].Do(t, func() error { return exec.Command("ip", "-6", "neigh", "flush", "dev", "eth0").Run() })
	r.check(t, ipv6, "wvg-1", "uplink", "translated")
}

// reachesHost reports whether a container of the network can connect to an address of the host, as is expected or not.
func (r router) reachesHost(t *testing.T, network string, to netip.Addr, expected bool) bool {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(to, 0).String())
	must(t, err)
	defer l.Close()
	err = nil
	r[network].Do(t, func() error {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", l.Addr().String(), patience(expected)); err == nil {
			conn.Close()
		}
		return nil
	})
	return err == nil
}

// TestMark: what rules of the user's have marked enters a network with a gateway, and nothing else does.
func TestMark(t *testing.T) {
	for name, mark := range map[string]struct{ accept, set string }{
		"all bits":  {"0x1", "0x1"},
		"some bits": {"0x10/0x30", "0x11/0x11"},
	} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			r := newRouter(t)
			accept, err := ParseMark(mark.accept)
			must(t, err)
			f, _ := newFirewallWith(t, Options{Accept: accept})
			must(t, f.Set(t.Context(), withGateways()))
			for v, cmd := range map[family]string{ipv4: "iptables-nft", ipv6: "ip6tables-nft"} {
				r.check(t, v, "uplink", "wvg-1", "no")
				shell(t, fmt.Sprintf("%s -t mangle -A PREROUTING -i puplink -d %s -j MARK --set-xmark %s", cmd,
					routedAddr(v, "wvg-1", 2).Masked(), mark.set))
				r.check(t, v, "uplink", "wvg-1", "yes")
				r.check(t, v, "uplink", "wvg-2", "no")
				r.check(t, v, "wvg-1", "uplink", "translated")
			}
		})
	}
}

func TestParseMark(t *testing.T) {
	for text, want := range map[string]Mark{
		"":                 {},
		"1":                {1, 0xffffffff},
		"0x2":              {2, 0xffffffff},
		"0x10/0x30":        {0x10, 0x30},
		"0xffffffff":       {0xffffffff, 0xffffffff},
		"4294967295/65535": {}, // bits outside the mask
		"0x100000000":      {},
		"0":                {},
		"1/0":              {},
		"-1":               {},
		"1/":               {},
		"one":              {},
	} {
		got, err := ParseMark(text)
		if got != want || (err == nil) != (want != Mark{} || text == "") {
			t.Errorf("ParseMark(%q) = %v, %v, want %v", text, got, err, want)
		}
		if again, err := ParseMark(got.String()); got != (Mark{}) && (again != got || err != nil) {
			t.Errorf("ParseMark(%q) = %v, %v, want %v", got, again, err, got)
		}
	}
}
