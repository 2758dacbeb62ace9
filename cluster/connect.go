// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/weaveplugin/weave/internal/wait"
)

// redial is how soon a lost connection is tried again.
var redial = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second}

// connect makes the client. It is tried again until ctx ends: a client with a user asks etcd for a token at its start.
func (c *Cluster) connect(ctx context.Context) error {
	const what = "connect to etcd"
	defer c.setProblem(what, nil)
	for failures := 0; ctx.Err() == nil; failures++ {
		client, err := c.newClient(ctx)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.client = client
			c.connected.open()
			return nil
		}
		c.setProblem(what, err)
		wait.For(ctx, c.pause(failures))
	}
	return ctx.Err()
}

// newClient returns a client that works until ctx ends. It may wait for etcd, for callTime at most.
func (c *Cluster) newClient(ctx context.Context) (*clientv3.Client, error) {
	o := c.options
	client, err := clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, TLS: o.TLS, Username: o.Username, Password: o.Password,
		Context: ctx, DialTimeout: callTime,
		MaxCallRecvMsgSize: maxAnswer, MaxCallSendMsgSize: maxAnswer,
		DialKeepAliveTime: callTime, DialKeepAliveTimeout: callTime, PermitWithoutStream: true,
		Logger: zap.NewNop(), // what it would tell comes as errors, too
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: redial, MinConnectTimeout: callTime,
		})},
	})
	return client, callError("log in", err)
}

// etcd returns the client. It waits for it, for a call's time at most, and is ErrUnreachable if there is none by then.
func (c *Cluster) etcd(ctx context.Context) (*clientv3.Client, error) {
	c.mu.Lock()
	client := c.client
	c.mu.Unlock()
	if client != nil {
		return client, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	select {
	case <-c.connected.opened():
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: there is no connection yet: `weave status` says why", ErrUnreachable)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, nil
}
