// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// pings are ping processes in the sandboxes of endpoints, which run until stop.
type pings struct {
	all     []*pinger
	started time.Time // when each had got its first reply
}

type pinger struct {
	cmd *exec.Cmd
	out string // the file with its output
}

// startPings starts a ping from the first endpoint of each pair to the second one, once in each interval (ping's -i),
// and returns when each has got a reply.
func startPings(t *testing.T, h *lab.Host, interval string, pairs ...[2]api.Endpoint) pings {
	t.Helper()
	dir := t.TempDir()
	var p pings
	for i, pair := range pairs {
		p.all = append(p.all, startPinger(t, h, interval, pair, filepath.Join(dir, strconv.Itoa(i))))
	}
	for _, one := range p.all {
		lab.Eventually(t, 10*time.Second, "the first reply", func() error {
			if answered, _ := one.answers(t); answered == 0 {
				return errors.New("none yet")
			}
			return nil
		})
	}
	p.started = time.Now()
	return p
}

func startPinger(t *testing.T, h *lab.Host, interval string, pair [2]api.Endpoint, out string) *pinger {
	t.Helper()
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	to := pair[1].Addresses[0].Addr().String()
	sandbox := sandboxPath(h, pair[0].Sandbox)
	p := &pinger{cmd: exec.Command("nsenter", "--net="+sandbox, "ping", "-n", "-i", interval, to), out: out}
	p.cmd.Stdout, p.cmd.Stderr = file, file
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // for a test that failed before it called stop
	return p
}

// answers returns the number of replies and the sequence number of the last one.
func (p *pinger) answers(t *testing.T) (count, last int) {
	t.Helper()
	b, err := os.ReadFile(p.out)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		_, rest, ok := strings.Cut(line, "icmp_seq=")
		number, _, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(number)
		if ok && err == nil && strings.Contains(rest, "time=") {
			count, last = count+1, max(last, n)
		}
	}
	return count, last
}

// stop ends the pings and fails t if a reply is missing before the last one. The text during names what happened.
func (p pings) stop(t *testing.T, during string) {
	t.Helper()
	took := time.Since(p.started)
	for _, one := range p.all {
		_ = one.cmd.Process.Signal(syscall.SIGINT)
	}
	answered, lost := 0, 0
	for _, one := range p.all {
		_ = one.cmd.Wait() // its status depends on the reply to the very last one
		count, last := one.answers(t)
		if count != last {
			t.Errorf("%s: %d of %d pings were answered", during, count, last)
		}
		answered, lost = answered+count, lost+last-count
	}
	t.Logf("%s, in %v: %d pings from %d endpoints answered, %d lost",
		during, took.Round(time.Millisecond), answered, len(p.all), lost)
}
