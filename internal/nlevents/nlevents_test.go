// SPDX-License-Identifier: Apache-2.0

package nlevents

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestSubscribe: the events of the groups come, and none that the filter keeps away.
func TestSubscribe(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	// Lets RTM_DELLINK by, and nothing else. Filters read big-endian numbers; the type is 4 bytes behind the beginning.
	gone := uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.RTM_DELLINK)))
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: gone, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	o := Options{
		Protocol: unix.NETLINK_ROUTE, Buffer: 1 << 20, Groups: []int{unix.RTNLGRP_TC, unix.RTNLGRP_LINK},
	}
	all := subscribe(t, o)
	o.Filter = &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	filtered := subscribe(t, o)
	if err := nstest.Run("ip link add link1 type bridge", "ip link del link1"); err != nil {
		t.Fatal(err)
	}
	for socket, want := range map[*nl.NetlinkSocket]uint16{all: unix.RTM_NEWLINK, filtered: unix.RTM_DELLINK} {
		messages, _, err := socket.Receive()
		if err != nil || messages[0].Header.Type != want {
			t.Errorf("%+v, %v, want a message of type %d first", messages, err, want)
		}
	}
}

func subscribe(t *testing.T, o Options) *nl.NetlinkSocket {
	t.Helper()
	socket, err := Subscribe(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(socket.Close)
	return socket
}

// TestRefused: what the kernel refuses leaves no descriptor open.
func TestRefused(t *testing.T) {
	before := descriptors(t)
	_, err := Subscribe(Options{Protocol: unix.NETLINK_ROUTE, Groups: []int{unix.RTNLGRP_LINK, 1 << 20}})
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("a group that there is not: %v, want EINVAL", err)
	}
	if now := descriptors(t); now != before {
		t.Errorf("%d descriptors are open, and were %d", now, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
