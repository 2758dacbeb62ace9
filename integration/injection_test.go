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

// datagrams returns the kernel's counts of the UDP datagrams that a container has got, those for no socket among them.
func datagrams(t *testing.T, h *lab.Host, container string) string {
	t.Helper()
	return h.Docker(t, "exec", container, "grep", "^Udp:", "/proc/net/snmp")
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
		a.Run(t, "--network", network, "--name", sender)
		pid := strings.TrimSpace(a.Docker(t, "inspect", "-f", "{{.State.Pid}}", sender))
		for _, to := range []struct {
			host            *lab.Host
			container, vtep string
		}{{b, "b1", "192.0.2.12"}, {a, "a1", "192.0.2.11"}} {
			packet := injected(vniOf(t, a), netip.MustParseAddr(address(t, to.host, to.container, "app")))
			dropped, got := droppedAt(t, a), datagrams(t, to.host, to.container)
			a.Exec(t, "nsenter", "-n", "-t", pid, "bash", "-c", "exec 3>/dev/udp/"+to.vtep+"/6784; "+
				"printf '"+packet+"' | dd bs=2048 iflag=fullblock status=none >&3")
			lab.Eventually(t, 10*time.Second, "the packet is dropped where it comes from", func() error {
				if droppedAt(t, a) == dropped {
					return fmt.Errorf("%s got %s, before %s", to.container, datagrams(t, to.host, to.container), got)
				}
				return nil
			})
			if now := datagrams(t, to.host, to.container); now != got {
				t.Errorf("%s got a datagram from a container on %s: %s, before %s", to.container, network, now, got)
			}
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
