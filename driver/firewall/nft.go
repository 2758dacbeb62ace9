// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// backend is one of the two machines of the kernel that frames pass: nftables, which iptables-nft writes, too, and the
// legacy tables of iptables. A kernel may have rules of both.
type backend interface {
	// look returns the chains that weave's rules belong in, as they are. It never makes the kernel create a table. It
	// may be called at any time, whatever else is under way.
	look(ctx context.Context) ([]chain, error)
	// write changes a chain: all of the edit or nothing. An error that is errChanged may come from somebody who has
	// changed the chain since it was looked at.
	write(ctx context.Context, c chain, e edit) error
}

var (
	errChanged = errors.New("the rules have changed meanwhile")
	// errUnusable is that of a back end that may be there but can't be worked with.
	errUnusable = errors.New("can't be used")
)

// chain is one of the kernel's.
type chain struct {
	backend string
	family  family
	table   string
	name    string
	kind    kind
	rules   [][]string // their arguments, as iptables -S lists them
	counts  []*count   // of the rules; nil: a rule that does not count

	policy *policy // of a chain that the kernel calls by itself

	doors []string // those of dockersDoors that are in the same table

	of      *nftables.Chain // nft
	handles []uint64        // nft: of the rules
	lines   []string        // legacy: the rules, as iptables-save lists them
}

func (c chain) String() string {
	return fmt.Sprintf("%s %s %s %s", c.backend, c.family, c.table, c.name)
}

// policy is what becomes of packets that no rule of a chain has decided about.
type policy struct {
	drops bool
	count *count
}

// commandLimit is how long a look or a change may take.
const commandLimit = 10 * time.Second

// dockerTable is the table that Docker has since version 29 if it uses nftables itself.
const dockerTable = "docker-bridges"

// nftKinds are the chains of nftables that weave's rules belong in, by table and name. Those with names in capitals are
// iptables-nft's.
var nftKinds = map[[2]string]kind{
	{"filter", "FORWARD"}:           forwarding,
	{"raw", "PREROUTING"}:           prerouting,
	{dockerTable, "raw-PREROUTING"}: prerouting,
}

var nftFamilies = map[family]nftables.TableFamily{
	ipv4: nftables.TableFamilyIPv4,
	ipv6: nftables.TableFamilyIPv6,
}

// nft works by netlink, without commands, so that a host needs none.
type nft struct {
	own   string      // the name of the table of this state
	works atomic.Bool // the kernel has nftables
}

// conn returns a connection whose calls end with ctx, and after commandLimit.
func conn(ctx context.Context) (*nftables.Conn, error) {
	limit := time.Now().Add(commandLimit)
	if d, ok := ctx.Deadline(); ok && d.Before(limit) {
		limit = d
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetDeadline(limit) }))
}

func (n *nft) look(ctx context.Context) ([]chain, error) {
	c, err := conn(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := c.ListChains()
	if err != nil && !n.works.Load() && !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("nftables %w in this kernel; the host takes what containers send to all, and its rules "+
			"may translate addresses inside a network: %w", errUnusable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	n.works.Store(true)
	var chains []chain
	for _, of := range listed {
		k, ok := nftKinds[[2]string{of.Table.Name, of.Name}]
		for v, number := range nftFamilies {
			if !ok || number != of.Table.Family || of.Hooknum == nil {
				continue
			}
			ch := chain{backend: "nft", family: v, table: of.Table.Name, name: of.Name, kind: k, of: of}
			for _, door := range dockersDoors {
				if slices.ContainsFunc(listed, func(other *nftables.Chain) bool {
					return other.Name == door && other.Table.Name == of.Table.Name && other.Table.Family == number
				}) {
					ch.doors = append(ch.doors, door)
				}
			}
			rules, err := c.GetRules(of.Table, of)
			if err != nil {
				return nil, fmt.Errorf("list rules of %s: %w", ch, err)
			}
			ch.read(rules)
			chains = append(chains, ch)
		}
	}
	return chains, nil
}

// read adds rules of nftables to the chain.
func (c *chain) read(rules []*nftables.Rule) {
	for _, r := range rules {
		c.rules = append(c.rules, listing(r))
		c.counts = append(c.counts, countOf(r))
		c.handles = append(c.handles, r.Handle)
	}
}

func (n *nft) write(ctx context.Context, ch chain, e edit) error {
	c, err := conn(ctx)
	if err != nil {
		return err
	}
	for _, r := range e.add {
		iptables := ch.table != dockerTable
		added := &nftables.Rule{Table: ch.of.Table, Chain: ch.of, Exprs: r.exprs(iptables)}
		if !iptables {
			added.UserData = userdata.AppendString(nil, userdata.TypeComment, r.comment)
		}
		if e.before == len(ch.handles) {
			c.AddRule(added)
			continue
		}
		added.Position = ch.handles[e.before]
		c.InsertRule(added)
	}
	for _, i := range e.remove {
		if err := c.DelRule(&nftables.Rule{Table: ch.of.Table, Chain: ch.of, Handle: ch.handles[i]}); err != nil {
			return err
		}
	}
	if err := flush(c); err != nil {
		return fmt.Errorf("write rules of %s: %w", ch, err)
	}
	return nil
}

// flush sends what a connection has gathered, as one transaction.
func flush(c *nftables.Conn) error {
	err := c.Flush()
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINTR) {
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}
