// SPDX-License-Identifier: Apache-2.0

package overlay

import "github.com/weaveplugin/weave/internal/announce"

// announce tells the containers at the ports of a bridge the MACs of these addresses, which some may know by others.
// The endpoints' own announcements don't get here: no bridge sends them to where it answers for containers
// (neigh_suppress). For the same reason these here go to no other host.
func (p *programmer) announce(bridge int, entries []Entry) (err error) {
	if len(entries) == 0 {
		return nil
	}
	if p.sender == nil {
		if p.sender, err = announce.NewSender(); err != nil {
			return err
		}
	}
	frames := make([][]byte, len(entries))
	for i, e := range entries {
		frames[i] = announce.Frame(e.MAC, e.Address)
	}
	return p.sender.Send(bridge, frames)
}
