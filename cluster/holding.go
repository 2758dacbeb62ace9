// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/store"
)

// The records of what this host holds, by the prefixes of their keys.
const (
	leaseKey      = "cluster/lease"    // heldLease
	networkPrefix = "cluster/network/" // + NETWORK: Network
	blockPrefix   = "cluster/block/"   // + NETWORK/BLOCK: nothing
	leavingPrefix = "cluster/leaving/" // + NETWORK: nothing; etcd may still have this host as a member
)

// heldLease is the holding lease. Another host may have what this one holds after Until; zero: it never had anything.
type heldLease struct {
	ID     clientv3.LeaseID `json:"id"`
	Until  time.Time        `json:"until,omitzero"`   // by this host's clock
	Prefix string           `json:"prefix,omitempty"` // of the keys that are under it; empty: not known
}

// holding is what this host holds under the holding lease, as its store has it.
type holding struct {
	store  store.Store
	prefix string        // of the cluster's keys
	work   chan struct{} // has a value when there is something to do
	ready  *gate         // open while the lease runs and etcd has what the store has

	mu        sync.Mutex
	lease     heldLease
	end       time.Duration // of the lease, by the kernel's clock since the boot, which nobody sets
	prolonged chan struct{} // gets a value when isOthers or the time when the lease runs out may have changed
	doubted   chan struct{} // gets a value when there are doubts, or this host is displaced
	displaced bool          // another machine is in the cluster as this host
	doubts    int           // how often it came in question whether this host still has what it holds
	checked   int           // doubts when that was asked of etcd last
	networks  map[string]Network
	blocks    map[string][]netip.Prefix // by network
	dropped   map[string][]netip.Prefix // by network: given back, but etcd was not told
	split     map[string][]netip.Prefix // by network: likewise, but for single addresses, see split.go
	leaving   map[string]bool
	written   time.Time // lease.Until in the store
}

// loadHolding returns what the store has. A lease runs for at most grace: the clock may have been another one.
func loadHolding(ctx context.Context, s store.Store, prefix string, grace time.Duration) (*holding, error) {
	h := &holding{
		store: s, prefix: prefix, work: make(chan struct{}, 1), ready: newGate(), prolonged: make(chan struct{}, 1),
		doubted:  make(chan struct{}, 1),
		networks: map[string]Network{}, blocks: map[string][]netip.Prefix{}, dropped: map[string][]netip.Prefix{},
		split: map[string][]netip.Prefix{}, leaving: map[string]bool{},
	}
	leases, err := store.Load[heldLease](ctx, s, leaseKey)
	if err != nil {
		return nil, err
	}
	h.lease = leases[leaseKey]
	h.written = h.lease.Until
	h.end = sinceBoot() + min(time.Until(h.lease.Until), grace)
	networks, err := store.Load[Network](ctx, s, networkPrefix)
	if err != nil {
		return nil, err
	}
	for key, nw := range networks {
		nw.Name = strings.TrimPrefix(key, networkPrefix)
		h.networks[nw.Name] = nw
	}
	leaving, err := s.List(ctx, leavingPrefix)
	if err != nil {
		return nil, err
	}
	for _, r := range leaving {
		h.leaving[strings.TrimPrefix(r.Key, leavingPrefix)] = true
	}
	blocks, err := s.List(ctx, blockPrefix)
	if err != nil {
		return nil, err
	}
	for _, r := range blocks {
		name, text, _ := strings.Cut(strings.TrimPrefix(r.Key, blockPrefix), "/")
		block, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("record %s: %w: %w", r.Key, store.ErrDamaged, err)
		}
		h.blocks[name] = append(h.blocks[name], block)
	}
	return h, nil
}

// await waits until this host may hold something, and returns the lease under which.
func (h *holding) await(ctx context.Context) (clientv3.LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	select {
	case <-h.ready.opened():
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: `weave status` says why", ErrUnreachable)
	}
	if h.hasRunOut() { // etcd has answered since, but not about the lease
		return 0, fmt.Errorf("%w: what this host holds may be others' by now: `weave status` says why", ErrUnreachable)
	}
	return h.lastLease(), nil
}

func (h *holding) hurry() {
	wait.Signal(h.work)
}

// doubt has etcd asked whether this host still has all that it holds. Until that is known it hands out nothing.
func (h *holding) doubt() {
	h.mu.Lock()
	h.doubts++
	h.mu.Unlock()
	wait.Signal(h.doubted)
}

func (h *holding) isInDoubt() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.doubts != h.checked
}

// beginCheck returns the doubts that a check is about to settle.
func (h *holding) beginCheck() int {
	select {
	case <-h.doubted:
	default:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.doubts
}

// endCheck notes that doubts are settled. There may be newer ones.
func (h *holding) endCheck(doubts int) {
	h.mu.Lock()
	h.checked = doubts
	h.mu.Unlock()
	if !h.isInDoubt() {
		h.ready.open()
	}
}

// mayHandOut reports whether this host may hand out what it holds.
func (h *holding) mayHandOut() bool { return !h.isOthers() && !h.isInDoubt() }

// apply writes a change of the records, then makes it in memory.
func (h *holding) apply(ctx context.Context, inMemory func(), changes ...store.Change) error {
	if err := h.store.Apply(ctx, changes...); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	inMemory()
	return nil
}

func (h *holding) putNetwork(ctx context.Context, nw Network) error {
	put, err := store.Put(networkPrefix+nw.Name, nw)
	if err != nil {
		return err
	}
	return h.apply(ctx, func() {
		h.networks[nw.Name] = nw
		delete(h.leaving, nw.Name)
	}, put, store.Delete(leavingPrefix+nw.Name))
}

// leaveNetwork forgets a network with its blocks; etcd is still to be told.
func (h *holding) leaveNetwork(ctx context.Context, name string) error {
	changes := []store.Change{store.Delete(networkPrefix + name), {Key: leavingPrefix + name, Value: []byte("{}")}}
	for _, b := range h.blocksOf(name) {
		changes = append(changes, store.Delete(blockKey(name, b)))
	}
	return h.apply(ctx, func() {
		delete(h.networks, name)
		delete(h.blocks, name)
		delete(h.dropped, name)
		delete(h.split, name)
		h.leaving[name] = true
	}, changes...)
}

// putLeaving notes that etcd may have this host as a member of a network that it is not on.
func (h *holding) putLeaving(ctx context.Context, name string) error {
	return h.apply(ctx, func() { h.leaving[name] = true },
		store.Change{Key: leavingPrefix + name, Value: []byte("{}")})
}

func (h *holding) leftNetwork(ctx context.Context, name string) error {
	return h.apply(ctx, func() { delete(h.leaving, name) }, store.Delete(leavingPrefix+name))
}

// putBlock adds a block, in which single addresses that this host holds are absorbed. One that it holds already is not
// written again: it may be about to be dropped.
func (h *holding) putBlock(ctx context.Context, network string, block netip.Prefix) error {
	held := h.blocksOf(network)
	covers := func(b netip.Prefix) bool { return b.Contains(block.Addr()) && b.Bits() <= block.Bits() }
	if slices.ContainsFunc(held, covers) {
		return nil
	}
	changes := []store.Change{{Key: blockKey(network, block), Value: []byte("{}")}}
	for _, b := range held {
		if block.Overlaps(b) {
			changes = append(changes, store.Delete(blockKey(network, b)))
		}
	}
	return h.apply(ctx, func() {
		rest := slices.DeleteFunc(h.blocks[network], block.Overlaps)
		h.blocks[network] = append(rest, block)
	}, changes...)
}

// dropBlock forgets a block; etcd is still to be told.
func (h *holding) dropBlock(ctx context.Context, network string, block netip.Prefix) error {
	return h.apply(ctx, func() {
		if i := slices.Index(h.blocks[network], block); i >= 0 {
			h.blocks[network] = slices.Delete(h.blocks[network], i, i+1)
			h.dropped[network] = append(h.dropped[network], block)
		}
	}, store.Delete(blockKey(network, block)))
}

// droppedOf returns the blocks that this host has dropped, of which etcd was not told.
func (h *holding) droppedOf(network string) []netip.Prefix {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.dropped[network])
}

// told notes that etcd knows that a block was dropped.
func (h *holding) told(network string, block netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropped[network] = slices.DeleteFunc(h.dropped[network], func(b netip.Prefix) bool { return b == block })
}

func blockKey(network string, block netip.Prefix) string {
	return blockPrefix + network + "/" + block.String()
}

// blocksOf returns the blocks of a network that this host holds, in the order in which it got them.
func (h *holding) blocksOf(network string) []netip.Prefix {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.blocks[network])
}

// names returns the networks that this host is on, and those that it is leaving.
func (h *holding) names() (networks, leaving []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.networks)), slices.Sorted(maps.Keys(h.leaving))
}

func (h *holding) network(name string) (Network, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	nw, ok := h.networks[name]
	return nw, ok
}

func (h *holding) isLeaving(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leaving[name]
}

func (h *holding) lastLease() clientv3.LeaseID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease.ID
}

// otherPrefix returns the prefix of the cluster in which this host holds something under its last lease, if that is
// another one than the present; empty: it is not.
func (h *holding) otherPrefix() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lease.Prefix == h.prefix {
		return ""
	}
	return h.lease.Prefix
}

// saveLease keeps a new lease, under which etcd does not have yet what this host holds.
func (h *holding) saveLease(ctx context.Context, id clientv3.LeaseID) error {
	h.mu.Lock()
	lease := heldLease{id, h.lease.Until, h.prefix}
	h.mu.Unlock()
	return h.putLease(ctx, lease)
}

// setRuns notes for how long etcd keeps the lease. The record is written only if it is off by step.
func (h *holding) setRuns(ctx context.Context, id clientv3.LeaseID, runs, step time.Duration) error {
	h.mu.Lock()
	lease := heldLease{id, time.Now().Add(runs).Round(0), h.prefix}
	h.lease, h.end = lease, sinceBoot()+runs
	isOff := lease.Until.Sub(h.written).Abs() >= step
	h.mu.Unlock()
	wait.Signal(h.prolonged)
	if !isOff {
		return nil
	}
	return h.putLease(ctx, lease)
}

func (h *holding) putLease(ctx context.Context, lease heldLease) error {
	put, err := store.Put(leaseKey, lease)
	if err != nil {
		return err
	}
	return h.apply(ctx, func() { h.lease, h.written = lease, lease.Until }, put)
}

// runsOut returns how long the lease runs yet, the time when it runs out by this host's clock, and what gets a value
// when that changes. The time is zero if this host never had anything.
func (h *holding) runsOut() (left time.Duration, until time.Time, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.end - sinceBoot(), h.lease.Until, h.prolonged
}

// hasRunOut reports whether others may have by now what this host holds.
func (h *holding) hasRunOut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.lease.Until.IsZero() && sinceBoot() >= h.end
}

// sinceBoot is the time since the boot. It goes on while the machine is suspended, as Go's monotonic clock does not.
func sinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Sprintf("the kernel's clock: %v", err)) // it has no reason to fail
	}
	return time.Duration(now.Nano())
}

// isOthers reports whether another host may have what this one holds: its lease has run out, or another machine is in
// the cluster as this host.
func (h *holding) isOthers() bool {
	return h.hasRunOut() || h.isDisplaced()
}

func (h *holding) isDisplaced() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.displaced
}

func (h *holding) setDisplaced(displaced bool) {
	h.mu.Lock()
	h.displaced = displaced
	h.mu.Unlock()
	wait.Signal(h.prolonged)
	wait.Signal(h.doubted)
}
