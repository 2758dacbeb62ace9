// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/integration/lab"
)

// What does a large cluster cost one of its hosts, and etcd? The other hosts are there only in etcd: 1,000, which have
// 100,000 endpoints on 1,000 networks. The host is on ten of these networks, or on all.
func BenchmarkClusterScale(b *testing.B) {
	for _, n := range []int{10, syntheticNetworks} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { benchmarkScale(b, n) })
	}
}

// churnTime and churnRate are for the endpoints that come and go.
const (
	churnTime = 20 * time.Second
	churnRate = 100 // a second
)

func benchmarkScale(b *testing.B, networks int) {
	underlay := lab.NewUnderlay(b, underlayAddress)
	s := newSynthetic(b, underlay)
	s.writeNetworks(b)
	a := startAloneWith(b, lab.Options{Underlay: underlay, Address: onUnderlay(11)}, "--cluster", s.etcd.Address())
	what := fmt.Sprintf("on %d of %d networks", networks, syntheticNetworks)
	add := func(question, unit string, value float64) {
		results.add(b, result{Question: question, Case: what, Unit: unit, Value: value})
	}
	add("memory of the plugin, on no network", "MB", memoryOf(b, a.plugin.PID)["Rss"])
	joined := milliseconds(func() {
		for i := range networks {
			a.addNetworkWith(b, map[string]string{"works.weave.network": networkOf(i * syntheticEndpoints)})
		}
	})
	add("join a network", "ms", joined/float64(networks))
	add("memory of the plugin, without endpoints", "MB", memoryOf(b, a.plugin.PID)["Rss"])

	empty := kernelMemory(b)
	s.writeEndpoints(b)
	endpoints := networks * syntheticEndpoints
	a.awaitRows(b, endpoints)
	rows, used := a.rows(b), kernelMemory(b)-empty
	add("rows of the kernel's tables", "", float64(rows))
	if networks == syntheticNetworks { // for less, what else the kernel does is too much
		add("memory of the kernel for them", "MB", used/1e6)
		add("of that for each row", "B", used/float64(rows))
	}

	a.plugin.Stop(b)
	a.PowerOff(b)
	awaitEnd(b, underlay)
	a.PowerOn(b)
	before := s.load(b)
	took := milliseconds(func() {
		a.plugin.Restart(b)
		a.awaitRows(b, endpoints)
	})
	add("boot until all is programmed", "ms", took)
	add("of that until the links are there", "ms", a.reconciled(b))
	s.awaitWatchers(b, networks)
	boot := s.load(b).since(before)
	add("CPU time of the plugin for it", "ms", cpuOf(b, a.plugin.PID).Seconds()*1e3)
	add("CPU time of etcd for it", "ms", boot.cpu.Seconds()*1e3)
	add("requests to etcd for it", "", boot.requests)
	add("sent by etcd for it", "MB", boot.sent)
	memory := memoryOf(b, a.plugin.PID)
	add("memory of the plugin, resident", "MB", memory["Rss"])
	add("of that not backed by a file", "MB", memory["Anonymous"])
	add("at most", "MB", peakOf(b, a.plugin.PID))

	with, plugin := s.churnLoad(b, a.plugin.PID)
	add("100 endpoints/s come and go: CPU of the plugin", "%", plugin)
	add("one that comes then: until it is programmed", "ms", a.awaitNeighbour(b, s.addOne))
	add("the same: memory of the plugin, resident", "MB", memoryOf(b, a.plugin.PID)["Rss"])
	a.plugin.Stop(b)
	without, _ := s.churnLoad(b, 0)
	seconds := churnTime.Seconds()
	add("the same: CPU of etcd", "%", with.cpu.Seconds()/seconds*100)
	add("the same without the host: CPU of etcd", "%", without.cpu.Seconds()/seconds*100)
	add("the same: requests of the host", "1/s", (with.requests-without.requests)/seconds)
	add("the same: sent to the host", "kB/s", (with.sent-without.sent)/seconds*1e3)
}

// awaitEnd waits until the kernel has removed the namespace of a host that was powered off: its links go last, and with
// its eth0 that link's peer.
func awaitEnd(b *testing.B, underlay *lab.Underlay) {
	b.Helper()
	lab.Eventually(b, time.Minute, "the end of the host's namespace", func() error {
		if out, err := underlay.Command(b.Context(), "ip", "link", "show", "master", "underlay").Output(); err != nil {
			return err
		} else if len(out) > 0 {
			return fmt.Errorf("there is still %s", out)
		}
		return nil
	})
}

// churnLoad has endpoints come and go, and returns what etcd does meanwhile, and the CPU that the plugin uses, in
// percent of one.
func (s *synthetic) churnLoad(b *testing.B, plugin int) (etcd load, percent float64) {
	b.Helper()
	before, used := s.load(b), time.Duration(0)
	if plugin != 0 {
		used = cpuOf(b, plugin)
	}
	changes := s.churn(b, churnRate, churnTime)
	if plugin != 0 {
		percent = (cpuOf(b, plugin) - used).Seconds() / churnTime.Seconds() * 100
	}
	etcd = s.load(b).since(before)
	etcd.requests -= float64(changes) // its own
	return etcd, percent
}

// awaitWatchers waits until the host follows all that it follows: the endpoints of each network, hosts, holders, and
// who wants addresses.
func (s *synthetic) awaitWatchers(b *testing.B, networks int) {
	b.Helper()
	lab.Eventually(b, time.Minute, "watches", func() error {
		if now, want := s.load(b).watchers, 3+networks; int(now) < want {
			return fmt.Errorf("there are %.0f, want %d", now, want)
		}
		return nil
	})
}

// awaitRows waits until so many endpoints of other hosts are programmed: their neighbour entries come last.
func (a *alone) awaitRows(b *testing.B, endpoints int) {
	b.Helper()
	conn := a.dialNetlink(b)
	defer conn.Close()
	for end := time.Now().Add(5 * time.Minute); ; {
		start := time.Now()
		found := neighbours(b, conn)
		if found == endpoints {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%d endpoints are programmed, want %d", found, endpoints)
		}
		time.Sleep(max(time.Millisecond, 5*time.Since(start))) // so that the look itself costs little
	}
}

// awaitNeighbour has an endpoint be added, which has the address that add returns, and returns how many milliseconds
// later it is programmed. Nothing else may change meanwhile.
func (a *alone) awaitNeighbour(b *testing.B, add func(*testing.B) netip.Addr) float64 {
	b.Helper()
	conn := a.dialNetlink(b)
	defer conn.Close()
	err := errors.Join(conn.JoinGroup(unix.RTNLGRP_NEIGH), conn.SetDeadline(time.Now().Add(time.Minute)))
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	address := add(b)
	for {
		events, err := conn.Receive()
		if err != nil {
			b.Fatalf("wait for the entry of %s: %v", address, err)
		}
		for _, m := range events {
			if m.Header.Type == unix.RTM_NEWNEIGH && bytes.Contains(m.Data, address.AsSlice()) {
				return time.Since(start).Seconds() * 1e3
			}
		}
	}
}

// dialNetlink opens a netlink socket in the host's network namespace.
func (a *alone) dialNetlink(b *testing.B) *netlink.Conn {
	b.Helper()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", a.PID()))
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Close()
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

// neighbours counts the IPv4 neighbour entries that somebody has entered.
func neighbours(b *testing.B, conn *netlink.Conn) (found int) {
	b.Helper()
	request := netlink.Message{Header: netlink.Header{
		Type: unix.RTM_GETNEIGH, Flags: netlink.Request | netlink.Dump,
	}, Data: make([]byte, unix.SizeofNdMsg)}
	request.Data[0] = unix.AF_INET
	answer, err := conn.Execute(request)
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range answer {
		const stateAt = 8 // of ndm_state in struct ndmsg
		if m.Data[stateAt]&unix.NUD_PERMANENT != 0 {
			found++
		}
	}
	return found
}

// rows counts all rows of the host's forwarding tables and neighbour tables.
func (a *alone) rows(b *testing.B) int {
	b.Helper()
	return strings.Count(a.Exec(b, "bridge", "fdb", "show"), "\n") +
		strings.Count(a.Exec(b, "ip", "neighbour", "show", "nud", "permanent"), "\n")
}

var reconciledLine = regexp.MustCompile(`msg=reconciled .*took=(\S+)`)

// reconciled returns how many milliseconds the plugin took at its last start until its links were there.
func (a *alone) reconciled(b *testing.B) float64 {
	b.Helper()
	all := reconciledLine.FindAllStringSubmatch(a.plugin.Logged(b), -1)
	if len(all) == 0 {
		b.Fatal("the plugin has not logged that it has reconciled")
	}
	took, err := time.ParseDuration(strings.Trim(all[len(all)-1][1], `"`))
	if err != nil {
		b.Fatal(err)
	}
	return took.Seconds() * 1e3
}

// kernelMemory returns how much memory the kernel uses for what it can't do without, in bytes: rows and links, among
// others.
func kernelMemory(b *testing.B) float64 {
	b.Helper()
	return field(b, "/proc/meminfo", "SUnreclaim") + field(b, "/proc/meminfo", "Percpu")
}

// peakOf returns the most memory that a process has had, resident, in MB.
func peakOf(b *testing.B, pid int) float64 {
	b.Helper()
	return field(b, filepath.Join("/proc", strconv.Itoa(pid), "status"), "VmHWM") / 1e6
}

// field returns the value, in bytes, of a line like "VmHWM: 7 kB".
func field(b *testing.B, file, name string) float64 {
	b.Helper()
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			kB, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			if err != nil {
				b.Fatal(err)
			}
			return kB * 1024
		}
	}
	b.Fatalf("%s has no %s", file, name)
	return 0
}

// cpuOf returns how much processor time a process has used.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest) // from the third field of proc(5) on
	const tick = 10 * time.Millisecond
	var sum time.Duration
	for _, n := range []int{14, 15} {
		ticks, err := strconv.Atoi(f[n-3])
		if err != nil {
			b.Fatalf("stat of process %d: %s", pid, text)
		}
		sum += time.Duration(ticks) * tick
	}
	return sum
}
