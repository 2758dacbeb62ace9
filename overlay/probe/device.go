// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/overlay"
)

// DeviceName is the name of the VXLAN device of the probes.
const DeviceName = "weave-probe"

// device is the VXLAN device of the probes with a packet socket on it.
type device struct {
	overlay.Device
	handle *netlink.Handle
	index  int
	socket *os.File
	raw    interface { // of socket
		Write(f func(fd uintptr) (done bool)) error
	}
}

// isolation are the settings that keep the host's network stack apart from the device, as from the bridges of networks
// that it is no member of: it has no IPv6 there, answers no ARP and takes no IPv4 packet, since no route leads back.
// One from 0.0.0.0 to all hosts it would take nevertheless: a rule of the firewall's drops that, behind the socket.
var isolation = []struct{ path, value string }{
	{"net/ipv6/conf/%s/disable_ipv6", "1"},
	{"net/ipv4/conf/%s/arp_ignore", "8"},
	{"net/ipv4/conf/%s/rp_filter", "1"},
}

// openDevice makes the device anew, for frames of that MTU.
func openDevice(o Options, mtu int) (_ *device, err error) {
	d := &device{Device: overlay.Device{Name: DeviceName, VNI: o.VNI, Port: o.Port, Local: o.Local, MTU: mtu}}
	if d.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open an rtnetlink socket: %w", err)
	}
	alias := "weave:" + o.StateID + ":probe"
	if err := d.removeEarlier(alias); err != nil {
		d.handle.Close()
		return nil, err
	}
	if err := d.Add(); err != nil {
		d.handle.Close()
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	link, err := d.handle.LinkByName(d.Name)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", d.Name, err)
	}
	d.index = link.Attrs().Index
	if err := d.handle.LinkSetAlias(link, alias); err != nil {
		return nil, fmt.Errorf("set the alias of %s: %w", d.Name, err)
	}
	for _, s := range isolation {
		file := filepath.Join("/", o.Root, "proc/sys", fmt.Sprintf(s.path, d.Name))
		// A host without IPv6 has no such setting, and needs none.
		if err := os.WriteFile(file, []byte(s.value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("keep the host apart from %s: %w", d.Name, err)
		}
	}
	if err := d.handle.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set up %s: %w", d.Name, d.Explain(err))
	}
	return d, d.listen(hostMAC(o.ID))
}

// removeEarlier removes the device that an earlier weave of the same state has left.
func (d *device) removeEarlier(alias string) error {
	link, err := d.handle.LinkByName(d.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up %s: %w", d.Name, err)
	}
	vxlan, ok := link.(*netlink.Vxlan)
	isOurs := ok && vxlan.VxlanId == int(d.VNI)
	if have := link.Attrs().Alias; !isOurs || have != alias && have != "" { // it is made without an alias
		return fmt.Errorf("link %s is there already and somebody else's: remove it with ip link delete %s",
			d.Name, d.Name)
	}
	if err := d.handle.LinkDel(link); err != nil {
		return fmt.Errorf("remove %s: %w", d.Name, err)
	}
	return nil
}

// listen opens the socket, for frames to this MAC alone: what strangers flood the port with must not take the place of
// probes. It is one for IPv4, which hears nothing of what is sent.
func (d *device) listen(to mac.Address) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	protocol := binary.NativeEndian.Uint16([]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff})
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, toOnly(to)),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: d.index}))
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("set up a packet socket on %s: %w", d.Name, err)
	}
	d.socket = os.NewFile(uintptr(fd), "packet socket of "+d.Name)
	d.raw, err = d.socket.SyscallConn()
	return err
}

// toOnly is a filter that lets frames to a MAC by, and nothing else.
func toOnly(to mac.Address) *unix.SockFprog {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(to[:4]), Jf: 3}, // to the last
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(binary.BigEndian.Uint16(to[4:])), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}

// enter has the device send frames to a host's MAC to its VTEP.
func (d *device) enter(h Host) error {
	err := d.handle.NeighSet(d.row(h))
	if err != nil {
		return fmt.Errorf("enter host %s (%s) into the table of %s: %w", h.Name, h.VTEP, d.Name, err)
	}
	return nil
}

// forget undoes enter. That the row is gone already is none of the caller's business.
func (d *device) forget(h Host) { _ = d.handle.NeighDel(d.row(h)) }

func (d *device) row(h Host) *netlink.Neigh {
	to := hostMAC(h.ID)
	return &netlink.Neigh{
		LinkIndex: d.index, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF, State: unix.NUD_PERMANENT,
		HardwareAddr: to[:], IP: h.VTEP.Unmap().AsSlice(),
	}
}

// send sends a frame, or loses it where it would have to wait. An error means that the device has to be made anew.
func (d *device) send(frame []byte) error {
	var sent error
	err := d.raw.Write(func(fd uintptr) bool {
		_, sent = unix.Write(int(fd), frame)
		return true
	})
	if errors.Is(sent, unix.EAGAIN) || errors.Is(sent, unix.ENOBUFS) || errors.Is(sent, unix.EINTR) {
		sent = nil
	}
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("send over %s: %w", d.Name, err)
	}
	return nil
}

// linkTo returns the name of the link that packets to a host go out of; empty: not known.
func (d *device) linkTo(h Host) string {
	o := &netlink.RouteGetOptions{SrcAddr: d.Local.Unmap().AsSlice()}
	routes, err := d.handle.RouteGetWithOptions(h.VTEP.Unmap().AsSlice(), o)
	if err != nil || len(routes) == 0 {
		return ""
	}
	link, err := d.handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return link.Attrs().Name
}

// close removes the device.
func (d *device) close() error {
	defer d.handle.Close()
	if d.socket != nil {
		d.socket.Close()
	}
	link, err := d.handle.LinkByName(d.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil && (d.index == 0 || link.Attrs().Index == d.index) {
		err = d.handle.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", d.Name, err)
	}
	return nil
}
