package rtnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// NamespaceID returns the id by which the connection's namespace knows the one that fd is open on, and gives it one if
// it has none. The id lives as long as the two namespaces.
func (c *Conn) NamespaceID(fd int) (int, error) {
	id, err := c.knownID(fd)
	if err != nil || id != unix.NETNSA_NSID_NOT_ASSIGNED {
		return id, err
	}
	request := appendAttr32(make([]byte, sizeofGenMsg), unix.NETNSA_FD, uint32(fd))
	request = appendAttr32(request, unix.NETNSA_NSID, allot)
	// EEXIST: a veth pair that now leads there, or another request, was first.
	if err := c.change(unix.RTM_NEWNSID, 0, request); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("give the namespace an id: %w", err)
	}
	if id, err = c.knownID(fd); err == nil && id == unix.NETNSA_NSID_NOT_ASSIGNED {
		err = errors.New("the kernel gave the namespace no id")
	}
	return id, err
}

const (
	sizeofGenMsg = 4                 // struct rtgenmsg, padded
	allot        = uint32(1<<32 - 1) // -1: the kernel chooses the id
)

// knownID is NETNSA_NSID_NOT_ASSIGNED for a namespace without an id here.
func (c *Conn) knownID(fd int) (int, error) {
	request := appendAttr32(make([]byte, sizeofGenMsg), unix.NETNSA_FD, uint32(fd))
	answer, err := c.ask(unix.RTM_GETNSID, request)
	if err != nil {
		return 0, fmt.Errorf("ask for the namespace's id: %w", err)
	}
	return decodeID(answer)
}

func decodeID(b []byte) (int, error) {
	if len(b) < sizeofGenMsg {
		return 0, errShort
	}
	id := unix.NETNSA_NSID_NOT_ASSIGNED
	err := eachAttr(b[sizeofGenMsg:], func(typ uint16, v []byte) (err error) {
		if typ == unix.NETNSA_NSID {
			id, err = number(v)
		}
		return err
	})
	return id, err
}
