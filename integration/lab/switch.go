// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Switch connects the hosts of an underlay in the place of its bridge. It is in user space: every frame between the
// hosts goes through this process, where it can be lost, doubled, late or overtaken. The ports have the names of their
// hosts.
//
// The ports are taps, whose frames the kernel completes before this process reads them: each has its checksums, and is
// no longer than the MTU.
type Switch struct {
	seed uint64

	mu      sync.Mutex
	ports   map[string]*os.File
	learned map[[6]byte]string // MAC to port
	lines   map[way]*line
	capture capture
}

// way is from one port to another.
type way struct{ from, to string }

// Any is any port, for Between.
const Any = ""

// NewSwitch makes an underlay whose hosts a Switch connects, and closes both at the end of t. Its random decisions
// follow from Seed. If t fails there are a capture of the last frames in build/, and counts of what was disturbed in
// the log.
func NewSwitch(t testing.TB, address netip.Prefix) (*Underlay, *Switch) {
	t.Helper()
	s := &Switch{
		seed: Seed(t), ports: map[string]*os.File{}, learned: map[[6]byte]string{}, lines: map[way]*line{},
	}
	u := holdUnderlay(t, address)
	t.Cleanup(u.Close)
	t.Cleanup(s.close)
	u.sw = s
	if err := s.plug(Outside, u.holder.pid, Outside); err != nil {
		t.Fatal(err)
	}
	u.setUp(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.report(t.Name()))
		}
	})
	return u, s
}

// plug makes an Ethernet device in the namespace of process pid, which is the other end of the port, and forwards what
// comes from there as long as the device exists. It replaces a port of the same name.
func (s *Switch) plug(name string, pid int, device string) error {
	tap, err := addTap(pid, device)
	if err != nil {
		return fmt.Errorf("plug %s into the switch: %w", name, err)
	}
	s.mu.Lock()
	if old := s.ports[name]; old != nil {
		old.Close()
	}
	s.ports[name] = tap
	for other := range s.ports {
		for _, w := range []way{{name, other}, {other, name}} {
			if s.lines[w] == nil && other != name {
				s.lines[w] = newLine(s.seed, w)
			}
		}
	}
	s.mu.Unlock()
	go func() {
		frame := make([]byte, maxFrame)
		for {
			n, err := tap.Read(frame)
			if err != nil { // its host is off, or the switch is closed
				return
			}
			s.forward(name, frame[:n])
		}
	}()
	return nil
}

// maxFrame is more than a tap's frames have, in bytes.
const maxFrame = 16 << 10

const headerSize = 14 // bytes of an Ethernet header

// delivery is a frame's way to a port, once for each of the times by which it comes late.
type delivery struct {
	to   *os.File
	late []time.Duration
}

// forward sends a frame to where its destination was seen last, or to all other ports.
func (s *Switch) forward(from string, frame []byte) {
	if len(frame) < headerSize {
		return
	}
	for _, d := range s.deliveries(from, frame) {
		for _, late := range d.late {
			if late == 0 {
				_, _ = d.to.Write(frame) // the host may just have gone off
				continue
			}
			kept := append([]byte(nil), frame...)
			time.AfterFunc(late, func() { _, _ = d.to.Write(kept) })
		}
	}
}

func (s *Switch) deliveries(from string, frame []byte) []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capture.add(frame)
	destination, source := [6]byte(frame[:6]), [6]byte(frame[6:12])
	s.learned[source] = from
	var out []delivery
	send := func(to string) {
		if to != from {
			out = append(out, delivery{s.ports[to], s.lines[way{from, to}].fate()})
		}
	}
	if to, ok := s.learned[destination]; ok {
		send(to)
		return out
	}
	for to := range s.ports {
		send(to)
	}
	return out
}

// Between says what happens from now on to frames between two ports, each way; Any stands for all of them.
func (s *Switch) Between(a, b string, f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := func(pattern, name string) bool { return pattern == Any || pattern == name }
	for w, l := range s.lines {
		if is(a, w.from) && is(b, w.to) || is(a, w.to) && is(b, w.from) {
			l.faults = f
		}
	}
}

// Heal ends all faults. What is late stays so.
func (s *Switch) Heal() { s.Between(Any, Any, Faults{}) }

func (s *Switch) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tap := range s.ports {
		tap.Close()
	}
}

// report writes the capture and returns what is to be told of a test that has failed.
func (s *Switch) report(test string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for w, l := range s.lines {
		fmt.Fprintf(&b, "%s to %s: %s\n", w.from, w.to, l)
	}
	top, err := topDir()
	if err == nil {
		path := filepath.Join(top, "build", "captures", strings.ReplaceAll(test, "/", "-")+".pcap")
		if err = s.capture.write(path); err == nil {
			fmt.Fprintf(&b, "the last frames: %s\n", path)
		}
	}
	if err != nil {
		fmt.Fprintf(&b, "no capture: %v\n", err)
	}
	return b.String()
}
