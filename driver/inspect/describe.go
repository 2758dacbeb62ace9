// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// settingsOfHost are the files with settings of the kernel that decide whether packets pass.
var settingsOfHost = []string{
	"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/*/forwarding", "/proc/sys/net/ipv4/conf/*/rp_filter",
	"/proc/sys/net/ipv6/conf/*/forwarding", "/proc/sys/net/ipv6/conf/*/disable_ipv6", "/proc/sys/net/bridge/*",
	"/proc/sys/net/ipv4/neigh/default/gc_thresh3", "/proc/sys/net/ipv6/neigh/default/gc_thresh3",
	"/proc/sys/net/netfilter/nf_conntrack_max", "/proc/sys/net/netfilter/nf_conntrack_count",
}

// DescribeHost describes the host's links, routes, rules and settings, for people. What can't be read is told in it.
func (i *Inspector) DescribeHost(ctx context.Context) ([]byte, error) {
	var b bytes.Buffer
	section := func(name string, list func() error) {
		fmt.Fprintf(&b, "# %s\n", name)
		if err := list(); err != nil {
			fmt.Fprintf(&b, "%v\n", err)
		}
	}
	names := map[int]string{}
	section("links", func() error {
		all, err := i.kernel.Host(ctx)
		if err != nil {
			return err
		}
		for _, l := range all.Links {
			names[l.Index] = l.Name
		}
		for _, l := range all.Links {
			fmt.Fprintf(&b, "%d: %s %s up=%v carrier=%v mtu=%d mac=%s master=%s port=%s qdisc=%s %v\n", l.Index, l.Name,
				l.Kind, l.Up, l.Carrier, l.MTU, l.MAC, names[l.Master], l.PortState, l.Qdisc, l.Addresses)
		}
		return nil
	})
	section("routes", func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		for _, r := range routes {
			fmt.Fprintln(&b, r)
		}
		return err
	})
	section("rules", func() error {
		rules, err := netlink.RuleList(netlink.FAMILY_ALL)
		for _, r := range rules {
			fmt.Fprintln(&b, r)
		}
		return err
	})
	section("settings", func() error { return describeSettings(&b) })
	return b.Bytes(), nil
}

func describeSettings(b *bytes.Buffer) error {
	for _, pattern := range settingsOfHost {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("settings %s: %w", pattern, err)
		}
		for _, file := range files {
			value, err := os.ReadFile(file)
			if pathErr, ok := err.(*fs.PathError); ok {
				value = []byte(pathErr.Err.Error())
			}
			fmt.Fprintf(b, "%s = %s\n", strings.TrimPrefix(file, "/proc/sys/"), strings.TrimSpace(string(value)))
		}
	}
	return nil
}
