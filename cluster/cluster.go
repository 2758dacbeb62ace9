// SPDX-License-Identifier: Apache-2.0

// Package cluster keeps what the hosts of a cluster share, in etcd: which hosts there are, their common networks, who
// holds which addresses, and the endpoints.
//
// A host's own truth stays in its store; etcd has what several hosts have to agree on. A host is in etcd under two
// leases. The presence lease is short: when the host dies it disappears for the others with its endpoints. The holding
// lease is long: what a host holds, blocks of addresses and memberships of networks, is nobody else's while it may
// still run. etcd measures both times, so no host has to trust another one's clock.
//
// It may run in any network namespace; weave runs it in the host's.
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/weaveplugin/weave/internal/keylock"
	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/store"
)

// The errors that a caller can distinguish with errors.Is.
var (
	// ErrConflict says that another host has what is asked for, or has it otherwise.
	ErrConflict = errors.New("in use by another host")
	// ErrExhausted says that no address is left for this host.
	ErrExhausted = errors.New("no free address is left in the cluster")
	// ErrPresent says that a host is there, so that it can't be forgotten.
	ErrPresent = errors.New("the host is there")
	// ErrUnreachable says that etcd does not answer, or can't at the moment.
	ErrUnreachable = errors.New("etcd can't be reached")
)

const (
	// DefaultPrefix begins all keys.
	DefaultPrefix = "weave/"
	// DefaultLease is how long a host that does not answer etcd any more is there for the others. An upgrade of weave
	// takes less.
	DefaultLease = 30 * time.Second
	// DefaultGrace is how long what a host holds stays its own after it has last answered.
	DefaultGrace = 24 * time.Hour
	// callTime bounds one call to etcd.
	callTime = 5 * time.Second
	// maxOperations is how many operations one transaction has at most; etcd refuses more than 128 by default.
	maxOperations = 100
	// pageSize is how many records are read at once; fewer, where they are so large that an answer would have more than
	// maxAnswer bytes. A record has at most 1.5 MB, by etcd's default.
	pageSize  = 1000
	maxAnswer = 4 << 20
)

// Options say how to reach etcd, and who this host is. All but TLS, Username and Password are required.
type Options struct {
	Endpoints          []string // URLs of etcd's members
	TLS                *tls.Config
	Username, Password string
	Prefix             string // of all keys; ends with a slash
	Host               Host
	Lease, Grace       time.Duration
	Store              store.Store // what this host holds, for when etcd is away
	Log                *logrus.Entry
}

// Cluster is this host's part of a cluster. Its methods may be called from several goroutines at once.
type Cluster struct {
	options      Options
	keys         keys
	id           string // of this host
	lease, grace time.Duration
	store        store.Store
	log          *logrus.Entry
	changes      *changes // of what there is on other hosts
	asked        *changes // networks of which other hosts find no address

	holding   *holding
	macs      *macs
	view      view
	locks     keylock.Locks[string] // by network: held while this host changes what it is or has there
	following sync.WaitGroup        // goroutines that follow a network
	self      Host

	connected  *gate // open when there is a client
	registered *gate // open while this host is the one of its id in the cluster, as far as it knows
	told       *gate // open when SetEndpoints has been called

	mu          sync.Mutex
	client      *clientv3.Client     // nil: there is none yet
	run         context.Context      // of what works with etcd; nil: it does not run
	beginAnew   context.CancelFunc   // ends run; all that is known is read again, and all that is here is written again
	history     history              // of etcd, by its answers
	isUnsettled bool                 // see settle.go
	hosts       map[string]Host      // that are there, by id, this one among them
	hostsRead   bool                 // hosts are known: from etcd, or as of the last time when weave ran
	holders     map[string]Host      // that are there or may come back
	hostsNow    chan struct{}        // gets a value when hosts or holders may have changed
	vanished    map[string]Host      // that were there before this one lost its lease, and are not: see settle.go
	gone        map[string]time.Time // when those of them went that are not there, if that was seen
	networks    map[string]*membership
	endpoints   map[string]Endpoint // of this host, by key
	endpoint    chan struct{}       // gets a value when endpoints changes
	contact     time.Time           // when etcd has answered last, before weave's start as well; zero: never
	hasAnswered bool                // since weave's start
	problems    map[string]error    // by what is tried again
}

// Open makes this host's part of the cluster from what its store has. It needs no etcd for that: Run connects.
func Open(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{
		options: o, keys: keys{o.Prefix}, id: o.Host.ID, self: o.Host,
		lease: o.Lease, grace: o.Grace, store: o.Store, log: o.Log,
		connected: newGate(), registered: newGate(), told: newGate(),
		changes: newChanges(), asked: newChanges(),
		hosts: map[string]Host{}, holders: map[string]Host{}, hostsNow: make(chan struct{}, 1),
		vanished: map[string]Host{}, gone: map[string]time.Time{},
		networks: map[string]*membership{}, endpoints: map[string]Endpoint{}, endpoint: make(chan struct{}, 1),
		problems: map[string]error{},
		view:     view{changed: make(chan struct{}, 1), stale: map[string]struct{}{}},
	}
	var err error
	if c.holding, err = loadHolding(ctx, o.Store, o.Prefix, o.Grace); err != nil {
		return nil, err
	}
	if c.macs, err = loadMACs(ctx, o.Store); err != nil {
		return nil, err
	}
	for name, nw := range c.holding.networks {
		c.networks[name] = newMembership(nw)
	}
	if err := c.loadView(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Run keeps this host in the cluster and follows what the others do, until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, work := range []func(context.Context){c.followHold, c.keepView, c.workWithEtcd} {
		group.Go(func() error { work(ctx); return nil })
	}
	return group.Wait()
}

// workWithEtcd does all that needs etcd, until ctx ends.
func (c *Cluster) workWithEtcd(ctx context.Context) {
	if c.connect(ctx) != nil {
		return
	}
	for ctx.Err() == nil {
		c.workWithOneEtcd(ctx)
	}
}

// workWithOneEtcd works until ctx ends, or until etcd turns out to be another one than before: see noteAnswer.
func (c *Cluster) workWithOneEtcd(ctx context.Context) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	c.registered.close()
	c.mu.Lock()
	c.run, c.beginAnew = ctx, end
	for _, m := range c.networks {
		m.stop = nil
		c.followNetwork(m)
	}
	c.mu.Unlock()
	var group sync.WaitGroup
	for _, work := range []func(context.Context){
		c.keepPresent, c.keepHolding, c.followHosts, c.followHolders, c.followWanted,
	} {
		group.Go(func() { work(ctx) })
	}
	group.Wait()
	c.following.Wait()
}

// Close closes the connection. The leases run on: weave that is started again within their time takes them up.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		return nil
	}
	return c.client.Close()
}

// Self returns this host.
func (c *Cluster) Self() Host { return c.self }

// lock waits until nothing else is done about a network. The function that it returns lets the next one work.
func (c *Cluster) lock(ctx context.Context, network string) (unlock func(), err error) {
	unlock, err = c.locks.Lock(ctx, network)
	if err != nil {
		return nil, fmt.Errorf("wait for what else is done about network %s of the cluster: %w", network, err)
	}
	return unlock, nil
}

// retry does work again and again until ctx ends. It pauses when work ends, for a random time: many hosts lose etcd at
// the same moment. The work reports what does not work, which is a problem until it reports nil; the error that it ends
// with is one, too.
func (c *Cluster) retry(ctx context.Context, what string, work func(ctx context.Context, report func(error)) error) {
	defer c.setProblem(what, nil)
	failures := 0
	report := func(err error) {
		if ctx.Err() != nil {
			return
		}
		c.setProblem(what, err)
		if err == nil {
			failures = 0
		}
	}
	for ctx.Err() == nil {
		if err := work(ctx, report); err != nil {
			report(err)
		}
		wait.For(ctx, c.pause(failures))
		failures++
	}
}

// maxPause bounds a pause between two tries.
const maxPause = 10 * time.Second

// pause returns a time between two tries: a tenth of the lease on average, so that a host that comes back is there
// before the others miss it. After each of the failures so far it is twice as long: an etcd that is slow gets no faster
// by all hosts that try again.
func (c *Cluster) pause(failures int) time.Duration {
	most := min(c.lease/5, 2*time.Second)
	for range failures {
		most = min(2*most, c.lease/2, maxPause)
	}
	return most/4 + rand.N(most)
}

// call returns a context for one call to etcd. A member that is cut off from the others refuses to answer by itself.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(clientv3.WithRequireLeader(ctx), callTime)
}

// callError returns what a failed call means. The error wraps ErrUnreachable unless etcd has refused the call.
func callError(doing string, err error) error {
	if err == nil {
		return nil
	}
	if refused(err) {
		return fmt.Errorf("%s: etcd: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, ErrUnreachable, err)
}

// commit makes one transaction: the changes if all comparisons hold.
func (c *Cluster) commit(ctx context.Context, doing string, compare []clientv3.Cmp, changes []clientv3.Op) (
	ok bool, err error,
) {
	answer, err := c.transact(ctx, doing, compare, changes)
	if err != nil {
		return false, err
	}
	return answer.Succeeded, nil
}

// transact is commit that returns etcd's answer.
func (c *Cluster) transact(ctx context.Context, doing string, compare []clientv3.Cmp, changes []clientv3.Op) (
	*clientv3.TxnResponse, error,
) {
	client, err := c.etcd(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	ctx, cancel := call(ctx)
	defer cancel()
	before := c.lastHistory()
	answer, err := client.Txn(ctx).If(compare...).Then(changes...).Commit()
	if err != nil {
		return nil, callError(doing, err)
	}
	return answer, c.noteAnswer(before, answer.Header)
}

// commitAll makes any number of changes, in as many transactions as etcd's limit asks for.
func (c *Cluster) commitAll(ctx context.Context, doing string, changes []clientv3.Op) error {
	for some := range slices.Chunk(changes, maxOperations) {
		if _, err := c.commit(ctx, doing, nil, some); err != nil {
			return err
		}
	}
	return nil
}

// exists compares true as long as there is such a key.
func exists(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), ">", 0) }

// missing compares true as long as there is no such key; missingBelow, as long as there is none that begins so.
func missing(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }

func missingBelow(prefix string) clientv3.Cmp { return missing(prefix).WithPrefix() }

// unchanged compares true as long as the key has not been written since it was read; unchangedBelow, as long as no key
// that begins so has been written after the revision at which all were read.
func unchanged(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", revision)
}

func unchangedBelow(prefix string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(prefix), "<", revision+1).WithPrefix()
}
