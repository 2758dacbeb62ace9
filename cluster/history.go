// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// history is how far etcd has got, as its answers tell: its revision grows with each change, for as long as it is the
// same etcd. One that was made anew, or restored from a backup, begins at a lower one. Watches would then wait for
// changes that come much later, and what hosts have claimed since the backup is free for others.
type history struct {
	number   int    // of etcds so far
	cluster  uint64 // id of etcd's cluster; 0: no answer yet
	revision int64
}

func (c *Cluster) lastHistory() history {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.history
}

// noteAnswer notes an answer that no member gives before it has all changes which were made before it was asked; before
// is the history at that moment. If etcd is another one, everything begins anew, and the error is ErrUnreachable.
func (c *Cluster) noteAnswer(before history, header *etcdserverpb.ResponseHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setContact()
	isSame := before.cluster == 0 || header.ClusterId == before.cluster && header.Revision >= before.revision
	switch {
	case isSame && before.number == c.history.number:
		c.history.cluster, c.history.revision = header.ClusterId, max(c.history.revision, header.Revision)
		return nil
	case isSame:
		return nil
	case before.number == c.history.number:
		c.log.Warnf("etcd was restored or made anew (revision %d after %d): reading and writing everything again",
			header.Revision, before.revision)
		c.history = history{before.number + 1, header.ClusterId, header.Revision}
		c.holding.doubt()
		c.isUnsettled = true
		if c.beginAnew != nil {
			c.beginAnew()
		}
	}
	return fmt.Errorf("%w: it was restored or made anew: try again", ErrUnreachable)
}
