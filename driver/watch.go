// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// eventBuffer holds the link events of a burst, in bytes: some 2 kB each.
	eventBuffer = 4 << 20
	// watchPause is the time between two attempts to subscribe to link events.
	watchPause = time.Second
)

// watchLinks follows the carrier of the host ends until ctx ends. The carrier comes up when Docker sets the container
// end up, after it has set its addresses. If events were lost it starts again with the present state of every link.
func (d *Driver) watchLinks(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.followLinks(ctx); err != nil && ctx.Err() == nil {
			d.log.WithError(err).Warn("link events: listening again")
			wait.For(ctx, watchPause)
		}
	}
}

func (d *Driver) followLinks(ctx context.Context) error {
	updates := make(chan netlink.LinkUpdate, 256)
	done := make(chan struct{})
	// ListExisting is not used: the library sends that request to everybody who listens to link events, and every
	// other listener sees an error. For the same reason no error callback is set: only the end of the events matters.
	options := netlink.LinkSubscribeOptions{
		ReceiveBufferSize:      eventBuffer,
		ReceiveBufferForceSize: true, // CAP_NET_ADMIN allows more than net.core.rmem_max
	}
	if err := netlink.LinkSubscribeWithOptions(updates, done, options); err != nil {
		close(done) // the library's socket may be open
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	defer func() {
		close(done)
		for range updates { // the library's reader ends only if its channel is read
		}
	}()
	existing, err := listLinks(ctx)
	if err != nil {
		return err
	}
	for _, link := range existing {
		d.noteCarrier(link.Attrs().Name, hasCarrier(link))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				return errors.New("the kernel's link events ended: too many at once")
			}
			d.noteCarrier(u.Attrs().Name, u.Header.Type == unix.RTM_NEWLINK && u.IfInfomsg.Flags&unix.IFF_LOWER_UP != 0)
		}
	}
}

func (d *Driver) noteCarrier(link string, up bool) {
	if strings.HasPrefix(link, hostEndPrefix) {
		d.tracked.setCarrier(link, up)
	}
}
