// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver/check/drops"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

// watchDrops has the kernel tell what it drops on the way until stop is called, which notes it, and in which of the
// namespaces that may be.
func (f *facts) watchDrops(ctx context.Context, sandboxes sandbox.Root) (stop func()) {
	source := f.source()
	if f.Quick || !source.IsValid() {
		return func() {}
	}
	w, err := drops.Watch(ctx, source, f.Address)
	if err != nil {
		f.dropsError = err
		return func() {}
	}
	return func() {
		f.drops, f.dropsError = w.Stop()
		f.watched = f.dropsError == nil
		f.namespaces = namespacesOf(sandboxes, f.Question)
	}
}

// source returns the sender's address of the family that is asked about; the zero one if it has none.
func (f facts) source() netip.Addr {
	for _, a := range f.From.Endpoint.Addresses {
		if a.Addr().Is4() == f.Address.Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// The kernel's reasons for drops that mean something else than others (enum skb_drop_reason).
const (
	netfilterDrop = "NETFILTER_DROP" // a rule has dropped it
	otherHost     = "OTHERHOST"      // it is for another MAC
	noSocket      = "NO_SOCKET"      // nobody wants it
)

// unanswered returns what the kernel has dropped of the probes that had no answer.
func (f facts) unanswered() []drops.Drop {
	return slices.DeleteFunc(slices.Clone(f.drops), func(d drops.Drop) bool {
		switch {
		case f.probes == nil:
			return true
		case d.Reason == otherHost && d.NetNS != f.namespaces.from && d.NetNS != f.namespaces.to:
			return true // a bridge that does not know the port sends to all
		case d.Reason == noSocket && d.NetNS == f.namespaces.from:
			return true // a late answer to an earlier probe
		case f.answered(): // then it is about the large packet; what raw sockets have got the kernel drops afterwards
			return d.Protocol != "icmp" || f.probes.Full == nil || d.Length < f.probes.Size
		case f.Port > 0:
			return d.Protocol == "icmp"
		}
		return d.Protocol == "tcp"
	})
}

// ruleDrops reports whether a rule of the host has dropped a probe.
func (f facts) ruleDrops() bool {
	return slices.ContainsFunc(f.unanswered(), func(d drops.Drop) bool {
		return d.Reason == netfilterDrop && d.NetNS != 0 && d.NetNS == f.namespaces.host
	})
}

// whyDropped adds to a sentence why the kernel has dropped the probes that had no answer; empty if it says nothing.
func (f facts) whyDropped() string {
	var all []string
	for _, d := range f.unanswered() {
		text := d.String() + f.namespaces.nameOf(d)
		if !slices.Contains(all, text) && len(all) < maxListed {
			all = append(all, text)
		}
	}
	switch {
	case len(all) > 0:
		return "; the kernel has dropped them: " + strings.Join(all, ", ")
	case f.dropsError != nil:
		return fmt.Sprintf("; the kernel can't be asked what it drops: %v", f.dropsError)
	}
	return ""
}

// namespaces are the inode numbers of the network namespaces on the way, by which the kernel tells them; 0: not known.
type namespaces struct {
	host, from, to       uint64
	nameOfFrom, nameOfTo string
}

// namespacesOf returns those on the way that a question is about.
func namespacesOf(sandboxes sandbox.Root, q Question) namespaces {
	n := namespaces{from: inode(sandboxes, q.From.Endpoint.Sandbox), nameOfFrom: q.From.Name}
	if q.To != nil {
		n.to, n.nameOfTo = inode(sandboxes, q.To.Endpoint.Sandbox), q.To.Name
	}
	var host unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &host) == nil {
		n.host = host.Ino
	}
	return n
}

// inode returns the inode number of a sandbox; 0 if it is not known.
func inode(sandboxes sandbox.Root, path string) uint64 {
	file, err := sandboxes.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	var st unix.Stat_t
	if unix.Fstat(int(file.Fd()), &st) != nil {
		return 0
	}
	return st.Ino
}

// nameOf returns where a packet was dropped, for people, as the end of a sentence.
func (n namespaces) nameOf(d drops.Drop) string {
	switch d.NetNS {
	case 0:
		return ""
	case n.host:
		return " on the host"
	case n.from:
		return " in " + n.nameOfFrom
	case n.to:
		return " in " + n.nameOfTo
	}
	return fmt.Sprintf(" in another network namespace (net:[%d])", d.NetNS)
}
