// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
)

func (c *Cluster) noteContact() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setContact()
}

// setContact notes that etcd has answered. The caller holds the lock.
func (c *Cluster) setContact() { c.contact, c.hasAnswered = time.Now(), true }

// setProblem records that something does not work, or, with nil, that it does. The log tells each change.
func (c *Cluster) setProblem(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch before := c.problems[what]; {
	case err == nil && before != nil:
		c.log.Infof("%s: works again", what)
		delete(c.problems, what)
	case err != nil:
		if before == nil {
			c.log.WithError(err).Warnf("%s: trying again", what)
		}
		c.problems[what] = err
	}
}

// Contact returns when etcd has answered last, and whether it has since weave's start; what is known from before is up
// to contactStep older than it was, unless weave was stopped in order. A zero time says that it never has.
func (c *Cluster) Contact() (last time.Time, sinceStart bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.contact, c.hasAnswered
}

// Problems returns what does not work now, one line each.
func (c *Cluster) Problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for what, err := range c.problems {
		out = append(out, fmt.Sprintf("cluster: %s: %v", what, err))
	}
	slices.Sort(out)
	return out
}

// Unreachable returns the error by which etcd is known not to answer at the moment; nil: it answers. A lost connection
// may be noticed only when the presence lease would run out.
func (c *Cluster) Unreachable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(c.problems)) {
		if err := c.problems[what]; errors.Is(err, ErrUnreachable) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// refused reports whether an error is etcd's answer to a call, and not that there was none.
func refused(err error) bool {
	var answer rpctypes.EtcdError
	return errors.As(err, &answer) && answer.Code() != codes.Unavailable && answer.Code() != codes.DeadlineExceeded
}
