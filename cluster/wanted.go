// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// askTime is how long a host that finds no address waits for another one, which may be busy, to give some back.
const askTime = 4 * time.Second

// Asked has a value while other hosts have asked for addresses that were not taken yet: see TakeAsked.
func (c *Cluster) Asked() <-chan struct{} { return c.asked.ready }

// TakeAsked returns the networks of which another host has found no address since the last call. This host is to Drop
// and GiveBack what it holds and does not use.
func (c *Cluster) TakeAsked() []string { return c.asked.take() }

// followWanted hears when another host asks for addresses of a network that this one is on. It follows those of all
// networks: few hosts ask, and a watch for each network would cost more than what it leaves out.
func (c *Cluster) followWanted(ctx context.Context) {
	prefix := c.keys.allWanted()
	c.follow(ctx, prefix, func(all bool, records []record) {
		for _, r := range records {
			network := strings.TrimPrefix(r.key, prefix)
			if _, isOn := c.Network(network); isOn && !all && !r.removed && string(r.value) != c.id {
				c.asked.note(network)
			}
		}
	})
}

// ask asks the other hosts for addresses of a network, and waits until one has given some back or none does so in time.
func (c *Cluster) ask(ctx context.Context, network string) (given bool, err error) {
	lease, err := c.holding.await(ctx)
	if err != nil {
		return false, err
	}
	client, err := c.etcd(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), askTime)
	defer cancel()
	watch := client.Watch(ctx, c.keys.blocks(network), clientv3.WithPrefix(), clientv3.WithFilterPut(),
		clientv3.WithCreatedNotify())
	if _, ok := <-watch; !ok {
		return false, callError("watch for addresses", ctx.Err())
	}
	put := clientv3.OpPut(c.keys.wanted(network), c.id, clientv3.WithLease(lease))
	if _, err := c.commit(ctx, "ask for addresses", nil, []clientv3.Op{put}); err != nil {
		return false, err
	}
	for answer := range watch {
		if err := answer.Err(); err != nil {
			return false, callError("watch for addresses", err)
		}
		if len(answer.Events) > 0 {
			return true, nil
		}
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return false, fmt.Errorf("%w: the watch for addresses has ended", ErrUnreachable)
	}
	return false, nil
}
