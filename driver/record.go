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

// writeNetwork puts the record with this phase on disk.
func (d *Driver) writeNetwork(ctx context.Context, nw Network, p phase) error {
	return d.put(ctx, "write network "+string(p), nw.key(), networkRecord{nw, p})
}

// writeEndpoint puts the record with this phase on disk.
func (d *Driver) writeEndpoint(ctx context.Context, ep Endpoint, p phase) error {
	return d.put(ctx, "write endpoint "+string(p), ep.key(), endpointRecord{ep, p})
}

func (d *Driver) put(ctx context.Context, step, key string, record any) error {
	change, err := store.Put(key, record)
	if err != nil {
		return err
	}
	d.step(step)
	return d.store.Apply(ctx, change)
}

// erase removes a record.
func (d *Driver) erase(ctx context.Context, key string) error {
	d.step("erase record")
	return d.store.Apply(ctx, store.Delete(key))
}
