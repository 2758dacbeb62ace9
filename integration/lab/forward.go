// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Forward has a port of this machine's loopback interface lead to a TCP address of the host's, as ssh -L does, until t
// ends. It returns the address here.
func (h *Host) Forward(t testing.TB, address string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer conn.Close()
				cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(h.PID()), "-n", "--",
					"busybox", "nc", host, port)
				// Otherwise the end of the command would not be noticed while the client is silent. The kernel's
				// splice(2), which a connection would be read by, would hold up the end, too.
				cmd.Stdin, cmd.Stdout = struct{ io.Reader }{conn}, conn
				cmd.WaitDelay = 100 * time.Millisecond
				_ = cmd.Run() // how a connection ends is the client's business
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		connections.Wait()
	})
	return l.Addr().String()
}
