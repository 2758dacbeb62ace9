package rtnl

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever comes over the socket, nothing panics, and what is decoded can be relied on.
func FuzzDecode(f *testing.F) {
	link := appendAttr(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, []byte("eth0\x00"))
	link = appendAttr(link, unix.IFLA_LINKINFO, appendAttr(nil, unix.IFLA_INFO_KIND, []byte("veth\x00")))
	f.Add(message(unix.RTM_NEWLINK, unix.NLM_F_MULTI, 1, link))
	address := appendAttr([]byte{unix.AF_INET, 24, 0, 0, 1, 0, 0, 0}, unix.IFA_LOCAL, []byte{10, 32, 0, 1})
	f.Add(message(unix.RTM_NEWADDR, unix.NLM_F_MULTI, 1, address))
	route := []byte{unix.AF_INET, 24, 0, 0, unix.RT_TABLE_MAIN, 0, 0, 1, 0, 0, 0, 0}
	route = appendAttr(route, unix.RTA_DST, []byte{10, 0, 0, 0})
	path := appendAttr([]byte{16, 0, 0, 0, 3, 0, 0, 0}, unix.RTA_GATEWAY, []byte{10, 0, 0, 1})
	f.Add(message(unix.RTM_NEWROUTE, unix.NLM_F_MULTI, 1, appendAttr(route, unix.RTA_MULTIPATH, path)))
	f.Add(message(unix.NLMSG_DONE, 0, 1, []byte{0xff, 0xff, 0xff, 0xff}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			m, rest, err := nextMessage(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			b = rest
			m.errno()
			decodeLink(m.payload)
			decodeNeighbour(m.payload)
			decodeID(m.payload)
			if _, p, _, err := decodeAddress(m.payload); err == nil && p != (netip.Prefix{}) && !p.IsValid() {
				t.Errorf("invalid prefix %v without an error", p)
			}
			routes, err := decodeRoute(m.payload)
			for _, r := range routes {
				if err == nil && !r.Destination.IsValid() {
					t.Errorf("invalid destination %v without an error", r.Destination)
				}
			}
		}
	})
}

// Attributes come back as they were put in.
func FuzzAttributes(f *testing.F) {
	f.Add(uint16(1), []byte("eth0\x00"), uint16(3), []byte{})
	f.Fuzz(func(t *testing.T, typ1 uint16, v1 []byte, typ2 uint16, v2 []byte) {
		const most = 1<<16 - 1 - unix.SizeofRtAttr
		if len(v1) > most || len(v2) > most {
			t.Skip()
		}
		typ1, typ2 = typ1&0x3fff, typ2&0x3fff // the two upper bits are flags
		b := appendAttr(appendAttr(nil, typ1, v1), typ2|unix.NLA_F_NESTED, v2)
		var types []uint16
		var values [][]byte
		err := eachAttr(b, func(typ uint16, v []byte) error {
			types, values = append(types, typ), append(values, v)
			return nil
		})
		if err != nil || len(types) != 2 || types[0] != typ1 || types[1] != typ2 || !bytes.Equal(values[0], v1) || !bytes.Equal(values[1], v2) {
			t.Errorf("got %v %x and error %v", types, values, err)
		}
	})
}
