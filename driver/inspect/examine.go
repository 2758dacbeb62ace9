// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// examineTime bounds the work in one sandbox.
const examineTime = 10 * time.Second

// Examination is everything that is there of one endpoint.
type Examination struct {
	Observation
	Stations []Station          // that the bridge has found at the host end, or was told of
	Port     string             // the link that the bridge sends frames for the endpoint's MAC to; empty: to all
	Sandbox  *netstate.Snapshot // nil: see Err of the Observation
	Problems []string           // what could not be looked at besides the sandbox, and why
}

// Station is one that a bridge sends frames to by a port: an entry of its FDB.
type Station struct {
	MAC       mac.Address
	Permanent bool // not learned from frames
}

// Examine looks at one endpoint: at its host end from the host, and into its sandbox by nsproc, for which it waits as
// Observe does.
func (i *Inspector) Examine(ctx context.Context, ep driver.Endpoint) Examination {
	var x Examination
	in := contents{source: api.Nsproc}
	if ep.Sandbox != "" {
		x.Sandbox, in.err = i.examineSandbox(ctx, ep.Sandbox)
	}
	if x.Sandbox != nil {
		in.links = x.Sandbox.Links
	}
	host, err := i.readHost(ctx, []driver.Endpoint{ep})
	if err != nil {
		x.Problems = append(x.Problems, fmt.Sprintf("the host's links can't be read: %v", err))
	}
	x.Observation = observe(ep, host, in)
	if x.Host == nil {
		return x
	}
	x.Stations, err = stations(x.Host.Index)
	if err != nil {
		x.Problems = append(x.Problems, err.Error())
	}
	if port, err := portOf(x.Host.Master, ep.MAC); err != nil {
		x.Problems = append(x.Problems, err.Error())
	} else if l := host.byIndex[port]; l != nil {
		x.Port = l.Name
	}
	return x
}

// examineSandbox lists all that is in a sandbox.
func (i *Inspector) examineSandbox(ctx context.Context, sandbox string) (*netstate.Snapshot, error) {
	if err := i.nsprocs.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other listings: %w", err)
	}
	defer i.nsprocs.Release(1)
	ctx, cancel := context.WithTimeout(ctx, examineTime)
	defer cancel()
	return i.launcher.List(ctx, sandbox, protocol.List{Routes: true, Neighbours: true, Rules: true, Sockets: true})
}

// stations returns the entries of the FDB that lead to a port of a bridge.
func stations(port int) ([]Station, error) {
	entries, err := netlink.NeighListExecute(netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(port)})
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the bridge's entries for the host end: %w", err)
	}
	var all []Station
	for _, e := range entries {
		const multicast = 1 // of the first byte: those are of the link, not of the bridge
		if e.LinkIndex == port && len(e.HardwareAddr) == 6 && e.HardwareAddr[0]&multicast == 0 {
			all = append(all, Station{mac.FromBytes(e.HardwareAddr), e.State&unix.NUD_PERMANENT != 0})
		}
	}
	return all, nil
}

// portOf returns the index of the link that a bridge sends frames for a MAC to; 0: it knows none. It can be asked for
// one entry since Linux 5.0; before, none is known.
func portOf(bridge int, m mac.Address) (int, error) {
	if bridge == 0 {
		return 0, nil
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.AddData(&netlink.Ndmsg{Family: unix.AF_BRIDGE})
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, m[:]))
	req.AddData(nl.NewRtAttr(unix.NDA_MASTER, nl.Uint32Attr(uint32(bridge))))
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("ask the bridge where %s is: %w", m, err)
	case len(answers) == 0:
		return 0, nil
	}
	entry, err := netlink.NeighDeserialize(answers[0])
	if err != nil {
		return 0, fmt.Errorf("read where %s is: %w", m, err)
	}
	return entry.LinkIndex, nil
}
