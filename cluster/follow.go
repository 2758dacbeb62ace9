// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// record is a key with its value, or one that was removed.
type record struct {
	key      string
	value    []byte
	revision int64 // of etcd, at which it was written
	removed  bool
}

// list returns what is below a prefix, and the revision of etcd at which it was so. It reads in pages, all of the same
// revision. What is too large for a record of weave's is left out: it must not fill the memory.
func (c *Cluster) list(ctx context.Context, prefix string) (records []record, revision int64, err error) {
	end := clientv3.GetPrefixRangeEnd(prefix)
	size := int64(pageSize)
	for next := prefix; ; {
		page, err := c.get(ctx, next, clientv3.WithRange(end), clientv3.WithLimit(size), clientv3.WithRev(revision))
		if status.Code(err) == codes.ResourceExhausted && size > 1 {
			size /= 2
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			if len(kv.Value) > maxRecord {
				c.log.Warnf("etcd: %s is left out: it has %d bytes", kv.Key, len(kv.Value))
				continue
			}
			records = append(records, record{key: string(kv.Key), value: kv.Value, revision: kv.ModRevision})
		}
		if !page.More {
			return records, revision, nil
		}
		next = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func (c *Cluster) get(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	client, err := c.etcd(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	ctx, cancel := call(ctx)
	defer cancel()
	before := c.lastHistory()
	answer, err := client.Get(ctx, key, options...)
	if err != nil {
		return nil, callError("read "+key, err)
	}
	return answer, c.noteAnswer(before, answer.Header)
}

// follow keeps its caller informed of what is below a prefix, until ctx ends: of all that is there, and then of each
// change. The client resumes a watch by itself after a lost connection; where it can't, since etcd has compacted what
// happened meanwhile or a member is cut off, everything is read again. So no change is missed.
func (c *Cluster) follow(ctx context.Context, prefix string, apply func(all bool, records []record)) {
	c.retry(ctx, "follow "+prefix, func(ctx context.Context, report func(error)) error {
		ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		defer cancel()
		client, err := c.etcd(ctx)
		if err != nil {
			return err
		}
		records, revision, err := c.list(ctx, prefix)
		if err != nil {
			return err
		}
		report(nil)
		apply(true, records)
		for answer := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1),
			clientv3.WithFragment()) {
			if err := answer.Err(); err != nil {
				return callError("watch", err)
			}
			apply(false, recordsOf(answer))
		}
		return errors.New("the watch has ended")
	})
}

func recordsOf(answer clientv3.WatchResponse) []record {
	var out []record
	for _, e := range answer.Events {
		out = append(out, record{
			string(e.Kv.Key), e.Kv.Value, e.Kv.ModRevision, e.Type == clientv3.EventTypeDelete,
		})
	}
	return out
}
