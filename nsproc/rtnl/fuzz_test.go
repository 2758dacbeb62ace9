// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/netstate"
)

// No input causes a panic, and whatever is decoded without an error is valid.
func FuzzDecode(f *testing.F) {
	end := message(unix.NLMSG_DONE, 0, 0, nil)
	link := appendAttr(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, []byte("eth0\x00"))
	link = appendAttr(link, unix.IFLA_LINKINFO, appendAttr(nil, unix.IFLA_INFO_KIND, []byte("veth\x00")))
	f.Add(append(message(unix.RTM_NEWLINK, unix.NLM_F_MULTI, 1, link), end...))
	address := appendAttr([]byte{unix.AF_INET, 24, 0, 0, 1, 0, 0, 0}, unix.IFA_LOCAL, []byte{10, 32, 0, 1})
	f.Add(message(unix.RTM_NEWADDR, unix.NLM_F_MULTI, 1, address))
	route := []byte{unix.AF_INET, 24, 0, 0, unix.RT_TABLE_MAIN, 0, 0, 1, 0, 0, 0, 0}
	route = appendAttr(route, unix.RTA_DST, []byte{10, 0, 0, 0})
	path := appendAttr([]byte{16, 0, 0, 0, 3, 0, 0, 0}, unix.RTA_GATEWAY, []byte{10, 0, 0, 1})
	f.Add(message(unix.RTM_NEWROUTE, unix.NLM_F_MULTI, 1, appendAttr(route, unix.RTA_MULTIPATH, path)))
	f.Add(message(unix.NLMSG_DONE, 0, 1, []byte{0xff, 0xff, 0xff, 0xff}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Decode(b); err == nil {
			checkSnapshot(t, s)
		}
		for len(b) > 0 {
			m, rest, err := NextMessage(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			b = rest
			// Any error will do, as long as neither panics.
			_ = m.errno()
			_, _ = decodeID(m.Payload)
			if s, err := Decode(append(bytes.Clone(m.whole), end...)); err == nil {
				checkSnapshot(t, s)
			}
		}
	})
}

func checkSnapshot(t *testing.T, s *netstate.Snapshot) {
	for _, l := range s.Links {
		for _, a := range l.Addresses {
			if !a.IsValid() {
				t.Errorf("invalid address %v without an error", a)
			}
		}
	}
	for _, r := range s.Routes {
		if !r.Destination.IsValid() {
			t.Errorf("invalid destination %v without an error", r.Destination)
		}
	}
	for _, n := range s.Neighbours {
		if !n.Address.IsValid() {
			t.Errorf("invalid neighbour %v without an error", n)
		}
	}
}

// Decoding attributes yields what was encoded.
func FuzzAttributes(f *testing.F) {
	f.Add(uint16(1), []byte("eth0\x00"), uint16(3), []byte{})
	f.Fuzz(func(t *testing.T, typ1 uint16, v1 []byte, typ2 uint16, v2 []byte) {
		const most = 1<<16 - 1 - unix.SizeofRtAttr
		if len(v1) > most || len(v2) > most {
			t.Skip()
		}
		typ1, typ2 = typ1&0x3fff, typ2&0x3fff // the upper two bits are flags
		b := appendAttr(appendAttr(nil, typ1, v1), typ2|unix.NLA_F_NESTED, v2)
		var types []uint16
		var values [][]byte
		err := EachAttr(b, func(typ uint16, v []byte) error {
			types, values = append(types, typ), append(values, v)
			return nil
		})
		if err != nil || !slices.Equal(types, []uint16{typ1, typ2}) ||
			!bytes.Equal(values[0], v1) || !bytes.Equal(values[1], v2) {
			t.Errorf("got %v %x and error %v", types, values, err)
		}
	})
}
