// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// hostLinks are links of the host's namespace.
type hostLinks struct {
	byName  map[string]*netstate.Link
	byIndex map[int]*netstate.Link
}

func indexLinks(links []netstate.Link) hostLinks {
	h := hostLinks{
		byName:  make(map[string]*netstate.Link, len(links)),
		byIndex: make(map[int]*netstate.Link, len(links)),
	}
	for i := range links {
		h.byName[links[i].Name] = &links[i]
		h.byIndex[links[i].Index] = &links[i]
	}
	return h
}

// readHost reads the links of the host, at least the endpoints' host ends and their bridges. On a host whose links
// change all the time no listing of all links is ever consistent; then it reads those that it needs, one by one.
func (i *Inspector) readHost(ctx context.Context, endpoints []driver.Endpoint) (hostLinks, error) {
	all, err := i.kernel.Host(ctx)
	if errors.Is(err, rtnl.ErrInterrupted) {
		return singleLinks(ctx, endpoints)
	}
	if err != nil {
		return hostLinks{}, err
	}
	return indexLinks(all.Links), nil
}

// singleLinks reads the endpoints' host ends and their bridges, each by itself.
func singleLinks(ctx context.Context, endpoints []driver.Endpoint) (hostLinks, error) {
	var links []netstate.Link
	bridges := map[int]bool{0: true} // indexes of those that were read; 0 stands for no bridge
	for _, ep := range endpoints {
		if err := ctx.Err(); err != nil {
			return hostLinks{}, err
		}
		hostEnd, err := netlink.LinkByName(ep.HostEnd)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err != nil {
			return hostLinks{}, fmt.Errorf("look up link %s: %w", ep.HostEnd, err)
		}
		links = append(links, toNetstate(hostEnd))

		master := hostEnd.Attrs().MasterIndex
		if bridges[master] {
			continue
		}
		bridges[master] = true
		bridge, err := netlink.LinkByIndex(master)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue // removed meanwhile
		}
		if err != nil {
			return hostLinks{}, fmt.Errorf("look up the bridge of link %s: %w", ep.HostEnd, err)
		}
		links = append(links, toNetstate(bridge))
	}
	return indexLinks(links), nil
}

// toNetstate returns the link as the package netstate describes links, without its addresses.
func toNetstate(link netlink.Link) netstate.Link {
	a := link.Attrs()
	var counters *netstate.Counters
	if c := a.Statistics; c != nil {
		counters = &netstate.Counters{
			RxPackets: c.RxPackets, TxPackets: c.TxPackets, RxBytes: c.RxBytes, TxBytes: c.TxBytes,
			RxErrors: c.RxErrors, TxErrors: c.TxErrors, RxDropped: c.RxDropped, TxDropped: c.TxDropped,
		}
	}
	return netstate.Link{
		Index:   a.Index,
		Name:    a.Name,
		Kind:    link.Type(),
		MAC:     mac.FromBytes(a.HardwareAddr),
		MTU:     a.MTU,
		Up:      a.Flags&net.FlagUp != 0,
		Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
		Peer:    a.ParentIndex,
		Master:  a.MasterIndex,

		Counters: counters,
	}
}
