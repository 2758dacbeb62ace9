// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// AddAddress gives a link an address of its own, without a route to a subnet. It is usable at once: IPv6 does not look
// for duplicates of it first. An address that the link has already is no error.
func (c *Conn) AddAddress(link int, a netip.Addr) error {
	request := make([]byte, unix.SizeofIfAddrmsg)
	request[0], request[1], request[2] = familyOf(a), byte(a.BitLen()), unix.IFA_F_NODAD
	native.PutUint32(request[4:], uint32(link))
	request = appendAttr(request, unix.IFA_LOCAL, a.AsSlice())
	request = appendAttr(request, unix.IFA_ADDRESS, a.AsSlice())
	err := c.change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, request)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
