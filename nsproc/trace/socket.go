// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// socketKind is that of a message about sockets (sock_diag(7)). Its attributes are not asked for.
func socketKind(sent bool) kind {
	if sent {
		return kind{name: "SOCK_DIAG_BY_FAMILY", header: rtnl.SizeofDiagRequest, fields: func(b []byte) string {
			return fmt.Sprintf("family=%s protocol=%s states=%#x", family(b[0]), transport(b[1]), native.Uint32(b[4:]))
		}}
	}
	return kind{name: "SOCK_DIAG_BY_FAMILY", header: rtnl.SizeofDiagMessage, fields: func(b []byte) string {
		const port, local, uid, inode = 4, 8, 64, 68 // offsets
		size := 4
		if b[0] == unix.AF_INET6 {
			size = 16
		}
		return fmt.Sprintf("family=%s state=%d local=%s port=%d uid=%d inode=%d", family(b[0]), b[1],
			address(b[local:local+size]), binary.BigEndian.Uint16(b[port:]),
			native.Uint32(b[uid:]), native.Uint32(b[inode:]))
	}}
}

func transport(b byte) string {
	return nameOf(map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}, b)
}
