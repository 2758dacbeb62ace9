// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// injected returns the payload of a VXLAN packet for printf(1): in it is a UDP datagram to port 9999 of an address.
func injected(vni uint32, to netip.Addr) string {
	const text = "injected\n"
	udp := []byte{0x11, 0x5c, 0x27, 0x0f, 0, byte(8 + len(text)), 0, 0}
	ip := append([]byte{0x45, 0, 0, byte(20 + len(udp) + len(text)), 0, 0, 0, 0, 64, 17, 0, 0, 10, 78, 0, 200},
		to.AsSlice()...)
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum&0xffff))
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x99, 8, 0}
	var out strings.Builder
	vxlan := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, vni<<8)
	for _, part := range [][]byte{vxlan, frame, ip, udp, []byte(text)} {
		for _, b := range part {
			fmt.Fprintf(&out, `\x%02x`, b)
		}
	}
	return out.String()
}

// droppedAt returns how many packets weave's rules about the tunnel have dropped on a host.
func droppedAt(t *testing.T, h *lab.Host) (n int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`udp dport 6784 .*counter packets (\d+)`).
		FindAllStringSubmatch(h.Exec(t, "nft", "list", "ruleset"), -1) {
		count, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		n += count
	}
	return n
}

// TestNobodyElseSendsFrames: a container on another network, with nothing but a UDP socket, sends a VXLAN packet with a
// frame in it to the other host, and to its own. No container of the network gets it.
func TestNobodyElseSendsFrames(t *testing.T) {
	t.Parallel()
	c := startHosts(t, 2)
	c.network(t, "app", "--subnet", "10.78.0.0/24")
	a, b := c.all[0], c.all[1]
	a.Run(t, "--network", "app", "--name", "a1")
	b.Run(t, "--network", "app", "--name", "b1")
	lab.Eventually(t, 10*time.Second, "the hosts reach each other", func() error {
		_, err := a.DockerErr("exec", "a1", "ping", "-c1", "-W1", address(t, b, "b1", "app"))
		return err
	})
	a.CreateNetwork(t, "other", "-d", "weave", "--ipam-driver", "weave", "--subnet", "10.79.0.0/24")
	for _, network := range []string{"other", "bridge"} {
		sender := "from-" + network
		a.Run(t, "--network", network, "--user", "1000", "--cap-drop", "ALL", "--name", sender)
		for _, to := range []struct {
			host            *lab.Host
			container, vtep string
		}{{b, "b1", "192.0.2.12"}, {a, "a1", "192.0.2.11"}} {
			got := "/tmp/from-" + network
			to.host.Docker(t, "exec", "-d", to.container, "sh", "-c", "exec timeout 60 nc -u -l -p 9999 > "+got)
			lab.Eventually(t, 10*time.Second, "the container listens", func() error {
				out, err := to.host.DockerErr("exec", to.container, "netstat", "-uln")
				if err == nil && !strings.Contains(out, ":9999") {
					err = fmt.Errorf("%s", out)
				}
				return err
			})
			vni := vniOf(t, a)
			packet := injected(vni, netip.MustParseAddr(address(t, to.host, to.container, "app")))
			before := droppedAt(t, a)
			a.Docker(t, "exec", sender, "sh", "-c", "printf '"+packet+"' | nc -u -w1 "+to.vtep+" 6784")
			lab.Eventually(t, 10*time.Second, "the packet is dropped where it comes from", func() error {
				if droppedAt(t, a) == before {
					return fmt.Errorf("%s got %q", to.container, to.host.Docker(t, "exec", to.container, "cat", got))
				}
				return nil
			})
			if text := to.host.Docker(t, "exec", to.container, "cat", got); text != "" {
				t.Errorf("%s got %q from a container on %s, which is on no network of the cluster", to.container, text,
					network)
			}
			to.host.Docker(t, "exec", to.container, "pkill", "nc")
		}
	}
	for _, h := range c.all {
		if out := h.Exec(t, "nft", "list", "ruleset"); !strings.Contains(out, "@hosts") {
			t.Errorf("%s has no rule about the tunnel's port", h.Name())
		}
	}
}

// vniOf returns the VNI of the host's only network of the cluster.
func vniOf(t *testing.T, h *lab.Host) uint32 {
	t.Helper()
	links := h.Exec(t, "ip", "-d", "-o", "link", "show", "type", "vxlan")
	m := regexp.MustCompile(`wvx-.* vxlan id (\d+)`).FindStringSubmatch(links)
	if m == nil {
		t.Fatalf("no VXLAN device among %s", links)
	}
	vni, err := strconv.ParseUint(m[1], 10, 24)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(vni)
}
