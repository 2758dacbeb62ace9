// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// outside6 is the address of the underlay's bridge by IPv6, where connectIPv6 has put it.
var outside6 = netip.MustParseAddr("2001:db8:1::1")

// connectIPv6 gives the underlay and a host on it addresses of IPv6, and the host a way there.
func connectIPv6(t *testing.T, under *lab.Underlay, h *lab.Host) {
	t.Helper()
	under.Exec(t, "ip", "address", "add", outside6.String()+"/64", "dev", "underlay", "nodad")
	h.Exec(t, "ip", "address", "add", sharedAddress6+"/64", "dev", "eth0", "nodad")
	h.Exec(t, "ip", "route", "add", "default", "via", outside6.String())
}

// wayOutHost starts a host with a way to the outside by IPv4 and IPv6, and weave on it.
func wayOutHost(t *testing.T, name string) (*lab.Underlay, *lab.Host) {
	t.Helper()
	t.Parallel()
	under := lab.NewUnderlay(t, outside)
	h := lab.Start(t, lab.Options{Name: name, Underlay: under, Address: sharedAddress})
	connectIPv6(t, under, h)
	h.StartPlugin(t)
	return under, h
}

// routedHost is a wayOutHost that is the outside's router to the subnets of gatewayNetwork: there it is seen by which
// network something leaves that does not translate. All of the outside answers.
func routedHost(t *testing.T, name string) *lab.Host {
	t.Helper()
	under, h := wayOutHost(t, name)
	under.Exec(t, "ip", "route", "add", "10.91.0.0/16", "via", sharedAddress.Addr().String())
	under.Exec(t, "ip", "route", "add", "fd91::/48", "via", sharedAddress6)
	answerAll(t, under.Path())
	return h
}

// gateways returns the gateways of the gatewayNetwork with the number n, as weave lists them.
func gateways(n int) string { return fmt.Sprintf("10.91.%d.1,fd91:0:0:%d::1", n, n) }

// ownAddress and ownAddress6 return the addresses that connect gives a container on the gatewayNetwork with a number.
func ownAddress(n int) string  { return fmt.Sprintf("10.91.%d.50", n) }
func ownAddress6(n int) string { return fmt.Sprintf("fd91:0:0:%d::50", n) }

// connect connects the container client to the gatewayNetwork with the number n. Docker before 28 ignores the priority.
func connect(t *testing.T, h *lab.Host, network string, n, priority int) {
	t.Helper()
	post(t, h, "/networks/"+network+"/connect", fmt.Sprintf(
		`{"Container":"client","EndpointConfig":{"IPAMConfig":{"IPv4Address":%q,"IPv6Address":%q},"GwPriority":%d}}`,
		ownAddress(n), ownAddress6(n), priority))
}

// exit is how a container leaves.
type exit struct {
	by         map[string]string // gateways, as weave lists them, by the networks by which something leaves
	ipv4, ipv6 string            // as whom it is seen outside; empty: nothing gets there
}

// checkWayOut fails t unless the container client comes to leave as w says: as weave's API and `weave ps` list it, by
// its routes, and as it is seen outside.
func checkWayOut(t *testing.T, h *lab.Host, when string, w exit) {
	t.Helper()
	sandbox := sandboxOf(t, h, "client")
	lab.Eventually(t, 10*time.Second, "the way out "+when, func() error {
		listed := map[string]string{}
		for _, e := range endpoints(t, h, api.Query{Containers: []string{"client"}}) {
			if e.Gateway != "" {
				listed[e.NetworkName] = e.Gateway
			}
		}
		if diff := cmp.Diff(w.by, listed, cmpopts.EquateEmpty()); diff != "" {
			return errors.New("listed (-want +got)\n" + diff)
		}
		if diff := cmp.Diff(w.by, gatewayColumn(h.Weave(t, "ps", "client")), cmpopts.EquateEmpty()); diff != "" {
			return errors.New("weave ps (-want +got)\n" + diff)
		}
		for i, to := range []string{outside.Addr().String(), outside6.String()} {
			want, got := w.gatewayTo(t, h, i == 1), routeTo(sandbox, to)
			if got != want {
				return fmt.Errorf("the route to %s is by %q, want %q", to, got, want)
			}
		}
		return nil
	})
	seenOutside(t, "a container "+when, sandbox, w.ipv4, w.ipv6)
}

// gatewayTo returns the gateway of the family.
func (w exit) gatewayTo(t *testing.T, h *lab.Host, is6 bool) string {
	t.Helper()
	for _, listed := range w.by {
		for text := range strings.SplitSeq(listed, ",") {
			if text == "docker" && !is6 {
				return poolsOf(t, h, wayOut)[0].Gateway
			}
			if addr, err := netip.ParseAddr(text); err == nil && addr.Is6() == is6 {
				return text
			}
		}
	}
	return ""
}

// routeTo returns the gateway by which an address is reached from a network namespace; empty: there is no route.
func routeTo(namespace, address string) string {
	out, _ := exec.Command("nsenter", "--net="+namespace, "ip", "route", "get", address).Output()
	_, after, _ := strings.Cut(string(out), " via ")
	gateway, _, _ := strings.Cut(after, " ")
	return gateway
}

// gatewayColumn returns the column GATEWAY of a table of weave's, by network, with commas.
func gatewayColumn(table string) map[string]string {
	out := map[string]string{}
	lines := strings.Split(table, "\n")
	cell := func(line, column, next string) string {
		return strings.TrimSpace(line[strings.Index(lines[0], column):strings.Index(lines[0], next)])
	}
	for _, line := range lines[1:] {
		if gateway := cell(line, "GATEWAY", "MAC"); gateway != "-" {
			out[cell(line, "NETWORK", "ADDRESS")] = strings.ReplaceAll(gateway, " ", ",")
		}
	}
	return out
}
