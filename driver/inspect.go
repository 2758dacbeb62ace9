package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netnsid"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// Observe tells what is really there of the endpoints: their host ends, and their container ends as source finds them in
// the sandboxes, several at a time. It changes nothing. An endpoint without a sandbox is looked at from the host only.
// Where the host can't be looked at, no endpoint is in the answer.
func (d *Driver) Observe(ctx context.Context, endpoints []Endpoint, source Source) map[EndpointID]Observation {
	out := make(map[EndpointID]Observation, len(endpoints))
	insides := d.lookInside(ctx, endpoints, source)
	// The host's links are read last, so that an endpoint whose inside was seen is there, or was removed meanwhile.
	host, err := d.hostLinks(ctx, endpoints)
	if err != nil {
		d.log.WithError(err).Warn("live listing: the host's links can't be read")
		return out
	}
	byName := make(map[string]*netstate.Link, len(host))
	byIndex := make(map[int]*netstate.Link, len(host))
	for i := range host {
		byName[host[i].Name] = &host[i]
		byIndex[host[i].Index] = &host[i]
	}
	for _, ep := range endpoints {
		in := insides[ep.Sandbox]
		o := Observation{Source: in.source, Host: byName[ep.HostEnd]}
		if in.err != nil {
			o.Err = in.err.Error()
		}
		if o.Host != nil {
			if master := byIndex[o.Host.Master]; master != nil {
				o.Bridge = master.Name
			}
			o.Inside = otherEnd(in.links, o.Host)
			// From outside the kernel leaves out, without a word, what does not fit: «missing» is believed of nsproc only.
			if o.Inside == nil && ep.State == Up && in.source == Kernel && in.err == nil {
				in = d.lookInto(ctx, ep.Sandbox, Nsproc)
				o.Source, o.Inside = in.source, otherEnd(in.links, o.Host)
				if in.err != nil {
					o.Err = in.err.Error()
				}
			}
		}
		out[ep.ID] = o
	}
	return out
}

// hostLinks is what there is of the endpoints' host ends and their bridges. The kernel is asked for all links at once; if
// these change all the while, for one after the other.
func (d *Driver) hostLinks(ctx context.Context, endpoints []Endpoint) ([]netstate.Link, error) {
	all, err := d.outside.Host(ctx)
	if err == nil {
		return all.Links, nil
	}
	if !errors.Is(err, rtnl.ErrInterrupted) {
		return nil, err
	}
	return d.singleLinks(ctx, endpoints)
}

func (d *Driver) singleLinks(ctx context.Context, endpoints []Endpoint) ([]netstate.Link, error) {
	var links []netstate.Link
	known := map[int]bool{}
	add := func(link netlink.Link, err error) error {
		if err == nil && link != nil && !known[link.Attrs().Index] {
			known[link.Attrs().Index] = true
			links = append(links, netstateLink(link))
		}
		return err
	}
	for _, nw := range d.Networks() {
		if err := add(findLink(nw.Bridge)); err != nil {
			return nil, err
		}
	}
	for _, ep := range endpoints {
		if err := cmp.Or(ctx.Err(), add(findLink(ep.HostEnd))); err != nil {
			return nil, err
		}
	}
	return links, nil
}

func netstateLink(link netlink.Link) netstate.Link {
	a := link.Attrs()
	return netstate.Link{
		Index: a.Index, Name: a.Name, Kind: link.Type(), MAC: mac.FromBytes(a.HardwareAddr), MTU: a.MTU,
		Up: a.Flags&net.FlagUp != 0, Carrier: carrier(link), Peer: a.ParentIndex, Master: a.MasterIndex,
	}
}

// otherEnd finds among a sandbox's links the other end of the host's: each names the other's index.
func otherEnd(links []netstate.Link, host *netstate.Link) *netstate.Link {
	for i, l := range links {
		if l.Kind == "veth" && l.Peer == host.Index && l.Index == host.Peer {
			return &links[i]
		}
	}
	return nil
}

// inside is what was found in one sandbox.
type inside struct {
	source Source
	links  []netstate.Link
	err    error
}

// atOnce is how many sandboxes are looked into at a time.
func atOnce() int64 { return int64(2 * runtime.NumCPU()) }

// lookInside looks into each of the endpoints' sandboxes once.
func (d *Driver) lookInside(ctx context.Context, endpoints []Endpoint, source Source) map[string]inside {
	found := map[string]*inside{}
	for _, ep := range endpoints {
		found[ep.Sandbox] = &inside{source: source}
	}
	var group errgroup.Group
	group.SetLimit(int(atOnce()))
	for sandbox, in := range found {
		if sandbox == "" {
			continue
		}
		group.Go(func() error {
			*in = d.lookInto(ctx, sandbox, source)
			return nil
		})
	}
	group.Wait() // no function returns an error
	out := make(map[string]inside, len(found))
	for sandbox, in := range found {
		out[sandbox] = *in
	}
	return out
}

// lookInto asks source about a sandbox; where the kernel does not answer for other namespaces, nsproc.
func (d *Driver) lookInto(ctx context.Context, sandbox string, source Source) inside {
	if source == Kernel {
		s, err := d.outside.List(ctx, sandbox)
		if err == nil {
			return inside{source: Kernel, links: s.Links}
		}
		if !errors.Is(err, netnsid.ErrUnsupported) {
			return inside{source: Kernel, err: err}
		}
	}
	if err := d.nsprocs.Acquire(ctx, 1); err != nil {
		return inside{source: Nsproc, err: fmt.Errorf("wait for other listings: %w", err)}
	}
	defer d.nsprocs.Release(1)
	s, err := d.launcher.List(ctx, sandbox, protocol.List{})
	if err != nil {
		return inside{source: Nsproc, err: err}
	}
	return inside{source: Nsproc, links: s.Links}
}
