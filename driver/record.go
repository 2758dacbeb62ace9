package driver

import (
	"context"

	"github.com/weaveplugin/weave/store"
)

// phase says how far the kernel is with what a record names. What is about to be made is written first and marked made
// last, what goes is marked first and its record removed last: so whatever a crash leaves behind, a record names.
type phase string

const (
	making phase = "making"
	made   phase = "made"
	going  phase = "going"
)

type networkRecord struct {
	Network
	Phase phase `json:"phase"`
}

type endpointRecord struct {
	Endpoint
	Phase phase `json:"phase"`
}

const (
	networkKeys  = "network/"
	endpointKeys = "endpoint/"
)

func (nw Network) key() string  { return networkKeys + string(nw.ID) }
func (ep Endpoint) key() string { return endpointKeys + string(ep.ID) }

// writeNetwork puts the record with this phase into the store.
func (d *Driver) writeNetwork(ctx context.Context, nw Network, p phase) error {
	return d.put(ctx, d.store, "write network "+string(p), nw.key(), networkRecord{nw, p})
}

// writeEndpoint puts the record with this phase into the store.
func (d *Driver) writeEndpoint(ctx context.Context, ep Endpoint, p phase) error {
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
