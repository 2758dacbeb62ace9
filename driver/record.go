// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"

	"github.com/weaveplugin/weave/store"
)

// The keys of the records: a prefix and Docker's id.
const (
	networkKeys  = "network/"  // Network
	endpointKeys = "endpoint/" // endpointRecord
)

type endpointRecord struct {
	Endpoint
	Phase Phase `json:"phase"`
}

func (def Definition) key() string { return networkKeys + string(def.ID) }
func (ep Endpoint) key() string    { return endpointKeys + string(ep.ID) }

// writeNetwork writes the network's record with its phase.
func (d *Driver) writeNetwork(ctx context.Context, nw Network) error {
	return d.put(ctx, d.store, "write network "+string(nw.Phase), nw.key(), nw)
}

// writeEndpoint writes the endpoint's record with this phase.
func (d *Driver) writeEndpoint(ctx context.Context, ep Endpoint, p Phase) error {
	return d.put(ctx, d.endpointStore, "write endpoint "+string(p), ep.key(), endpointRecord{ep, p})
}

func (d *Driver) put(ctx context.Context, into store.Store, step, key string, record any) error {
	change, err := store.Put(key, record)
	if err != nil {
		return err
	}
	d.step(step)
	return into.Apply(ctx, change)
}

func (d *Driver) eraseNetwork(ctx context.Context, nw Network) error {
	return d.erase(ctx, d.store, nw.key())
}

func (d *Driver) eraseEndpoint(ctx context.Context, ep Endpoint) error {
	return d.erase(ctx, d.endpointStore, ep.key())
}

func (d *Driver) erase(ctx context.Context, from store.Store, key string) error {
	d.step("erase record")
	return from.Apply(ctx, store.Delete(key))
}
