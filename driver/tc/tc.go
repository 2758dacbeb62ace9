// SPDX-License-Identifier: Apache-2.0

// Package tc attaches small eBPF programs to the links of weave's networks, by the kernel's traffic control (tc). All
// of it runs in the host's network namespace.
//
// At a host end the programs do up to two things. They push a priority tag (IEEE 802.1p: a VLAN tag with id 0) on every
// frame that comes from the container, and pop it from every frame that goes to a container. Between two ports of one
// bridge the frame is thus tagged, and br_netfilter, which would send it through the host's iptables and nftables
// rules, lets tagged frames by (net.bridge.bridge-nf-filter-vlan-tagged is 0 by default). The bridge itself takes a
// frame with VLAN id 0 for an untagged one. And they guard the network: router advertisements and answers of DHCP
// servers are dropped where they come from a port that may not send them, so that no container can give its neighbours
// addresses and routes.
//
// At a bridge a program drops what the bridge would deliver to the host.
//
// Attaching a program takes CAP_NET_ADMIN, loading it takes more (CAP_BPF, or CAP_SYS_ADMIN before Linux 5.8), which
// weave has given up. So a child process loads them all once and hands their descriptors over. A program lives as long
// as something refers to it: those that are attached stay when weave ends.
package tc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Port says what is done at a host end. The zero Port is one without programs.
type Port struct {
	Tag                    bool // frames from the container are tagged, and the tags of frames to it are popped
	NoRouterAdvertisements bool // those that the container sends are dropped
	NoDHCPAnswers          bool // likewise those of a DHCP server, for IPv4 and IPv6
}

// ErrUnsupported is wrapped by errors that say that this kernel, or what weave may do, is not enough for programs.
var ErrUnsupported = errors.New("tc programs are not supported here")

// Programs are the loaded programs. Its methods may be called from several goroutines at once.
type Programs struct {
	files map[string]*os.File // by the programs' full names

	mu  sync.Mutex
	err error // why programs can't be used; nil: they can, as far as is known
}

// Load loads the programs. An error wraps ErrUnsupported, and the Programs are usable nevertheless: their Problem is
// that error, and all else that is asked of them returns it.
func Load(ctx context.Context) *Programs {
	p := &Programs{}
	p.files, p.err = load(ctx)
	if p.err != nil {
		p.err = fmt.Errorf("%w: %w", ErrUnsupported, p.err)
	}
	return p
}

// Close gives up the descriptors. Programs that are attached stay.
func (p *Programs) Close() error {
	if p == nil {
		return nil
	}
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Problem returns why programs can't be used; nil if they can. It wraps ErrUnsupported.
func (p *Programs) Problem() error {
	if p == nil {
		return fmt.Errorf("%w: they were not loaded", ErrUnsupported)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Attached are the programs of weave's at a link, by names that say which version of weave made them. The zero Attached
// is that of a link without.
type Attached struct {
	Ingress string // for frames that come from the link
	Egress  string // for frames that go to it
}

// AtPort returns the programs that do at a host end what port says.
func AtPort(port Port) Attached {
	a := Attached{Ingress: fullName(ingressProgram(port))}
	if port.Tag {
		a.Egress = fullName(popProgram)
	}
	return a
}

// AtBridge returns the program that drops what a bridge would deliver to the host.
func AtBridge() Attached { return Attached{Ingress: fullName(dropProgram)} }

// Look returns the programs of weave's at a link.
func Look(link netlink.Link) (a Attached, err error) {
	if a.Ingress, err = attachedAt(link, netlink.HANDLE_MIN_INGRESS); err != nil {
		return Attached{}, err
	}
	a.Egress, err = attachedAt(link, netlink.HANDLE_MIN_EGRESS)
	return a, err
}

// Set replaces the programs at a link, which are have, by want. One that stays is left as it is, and one is replaced by
// another without a moment in which there is none. The error wraps ErrUnsupported if the kernel can't do it.
func (p *Programs) Set(link netlink.Link, have, want Attached) error {
	if err := p.Problem(); err != nil {
		return err
	}
	err := p.setAt(link, netlink.HANDLE_MIN_INGRESS, have.Ingress, want.Ingress)
	if err == nil {
		err = p.setAt(link, netlink.HANDLE_MIN_EGRESS, have.Egress, want.Egress)
	}
	if err != nil {
		return fmt.Errorf("tc programs of %s: %w", link.Attrs().Name, p.note(err))
	}
	return nil
}

func (p *Programs) setAt(link netlink.Link, parent uint32, have, want string) error {
	switch want {
	case have:
		return nil
	case "":
		return detach(link, parent)
	default:
		return p.attach(link, parent, want)
	}
}

// Priority and handle of weave's filters. tc(8) asks the programs of other priorities, too, since weave's leave the
// verdict open unless they drop a frame. It gives priorities from 49152 on by itself, and others like to take 1.
const (
	priority = 120
	handle   = 1
)

// note keeps an error that says that the kernel lacks what is needed, and wraps it with ErrUnsupported.
func (p *Programs) note(err error) error {
	// ENOENT: no sch_ingress or cls_bpf. EOPNOTSUPP: a kernel without them, or without eBPF in cls_bpf (before 4.4).
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	return err
}

// attachedAt returns the full name of weave's program at one place of a link; empty if there is none.
func attachedAt(link netlink.Link, parent uint32) (string, error) {
	filters, err := netlink.FilterList(link, parent)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) { // it has no such qdisc, or is gone
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("list the tc filters of %s: %w", link.Attrs().Name, err)
	}
	for _, f := range filters {
		bpf, ok := f.(*netlink.BpfFilter)
		if ok && bpf.Priority == priority && strings.HasPrefix(bpf.Name, namePrefix) {
			return bpf.Name, nil
		}
	}
	return "", nil
}

// attach attaches a program, in the place of another one of weave's if there is one.
func (p *Programs) attach(link netlink.Link, parent uint32, name string) error {
	index := link.Attrs().Index
	clsact := &netlink.GenericQdisc{
		QdiscType: "clsact",
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
		},
	}
	err := netlink.QdiscAdd(clsact)
	if errors.Is(err, unix.EEXIST) {
		err = checkClsact(link)
	}
	if err != nil {
		return fmt.Errorf("add qdisc clsact: %w", err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: parent, Priority: priority, Handle: handle, Protocol: unix.ETH_P_ALL,
		},
		Fd: int(p.files[name].Fd()), Name: name, DirectAction: true,
	}
	if err := netlink.FilterReplace(filter); err != nil {
		return fmt.Errorf("add filter %s: %w", name, err)
	}
	return nil
}

// checkClsact returns an error if the qdisc that is there already is ingress, somebody else's, which has
// no place for frames that go to the link. It asks for the qdisc of this link by its kind, which the kernel refuses
// with EINVAL if it is of another one: a listing would be of all links of the host.
func checkClsact(link netlink.Link) error {
	req := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_ACK)
	req.AddData(&nl.TcMsg{
		Family: nl.FAMILY_ALL, Ifindex: int32(link.Attrs().Index), Parent: netlink.HANDLE_CLSACT,
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("clsact")))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.EINVAL) {
		const advice = "somebody has given %s a qdisc ingress: remove it (tc qdisc del dev %[1]s ingress)"
		return fmt.Errorf(advice, link.Attrs().Name)
	}
	return err
}

func detach(link netlink.Link, parent uint32) error {
	err := netlink.FilterDel(&netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: link.Attrs().Index, Parent: parent, Priority: priority, Handle: handle, Protocol: unix.ETH_P_ALL,
	}})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove filter: %w", err)
	}
	return nil
}

// namePrefix begins the full names of weave's programs, by which it knows them.
const namePrefix = "weave:"

// fullName is the name with which a program is attached. It has a digest of the instructions, so that another version
// of weave sees whether the program is its own.
func fullName(name string) string {
	if name == "" {
		return ""
	}
	return namePrefix + name + ":" + digests()[name]
}

// digests returns the digest of each program's instructions.
var digests = sync.OnceValue(func() map[string]string {
	out := map[string]string{}
	for name, instructions := range programs() {
		out[name] = digest(instructions)
	}
	return out
})
