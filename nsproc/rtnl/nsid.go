// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	sizeofGenMsg = 4                 // struct rtgenmsg, padded
	anyID        = uint32(1<<32 - 1) // -1 in a request for a new id: the kernel chooses it
)

// NamespaceID returns the id that the connection's namespace has for the network namespace that fd is open on. If
// there is none, it has the kernel assign one. The id is valid as long as both namespaces exist.
func (c *Conn) NamespaceID(fd int) (int, error) {
	id, err := c.assignedID(fd)
	if err != nil || id != unix.NETNSA_NSID_NOT_ASSIGNED {
		return id, err
	}
	request := appendAttr32(make([]byte, sizeofGenMsg), unix.NETNSA_FD, uint32(fd))
	request = appendAttr32(request, unix.NETNSA_NSID, anyID)
	// EEXIST: it got an id just now, from another request or because a veth pair has been connected to it.
	if err := c.change(unix.RTM_NEWNSID, 0, request); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("assign an id to the namespace: %w", err)
	}
	if id, err = c.assignedID(fd); err == nil && id == unix.NETNSA_NSID_NOT_ASSIGNED {
		err = errors.New("the kernel assigned no id to the namespace")
	}
	return id, err
}

// assignedID returns the namespace's id, NETNSA_NSID_NOT_ASSIGNED if it has none.
func (c *Conn) assignedID(fd int) (int, error) {
	request := appendAttr32(make([]byte, sizeofGenMsg), unix.NETNSA_FD, uint32(fd))
	answer, err := c.get(unix.RTM_GETNSID, request)
	if err != nil {
		return 0, fmt.Errorf("get the namespace's id: %w", err)
	}
	return decodeID(answer)
}

// decodeID decodes an RTM_NEWNSID.
func decodeID(b []byte) (int, error) {
	if len(b) < sizeofGenMsg {
		return 0, errShort
	}
	id := unix.NETNSA_NSID_NOT_ASSIGNED
	err := EachAttr(b[sizeofGenMsg:], func(typ uint16, v []byte) (err error) {
		if typ == unix.NETNSA_NSID {
			id, err = number(v)
		}
		return err
	})
	return id, err
}
