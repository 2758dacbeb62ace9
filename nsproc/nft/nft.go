// SPDX-License-Identifier: Apache-2.0

// Package nft makes the table of nftables that leads a container's questions for names to weave's resolver instead of
// Docker's, and keeps it alive. nsproc makes the table inside the sandbox, over a netlink socket that it hands to the
// plugin; with that the plugin, in the host's namespace, says every few seconds that it is there.
//
// The table belongs to the socket (NFT_TABLE_F_OWNER, Linux 5.12): nobody else can change it, and when the last process
// that has the socket closes it or dies, the kernel removes the table. It does nothing either when the plugin has not
// said for a while that it is there. Without the table names are Docker's own, as in a container without weave.
//
// The rules rewrite ports only and keep no state. A rule that translates addresses (NAT) would leave entries of
// conntrack behind, which lead a socket that asks again and again to a plugin that has died.
//
// It stands on golang.org/x/sys/unix, since nsproc pays with each start for what it imports, and since
// github.com/google/nftables (v0.3.0) can't make a table that has an owner.
package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/record"
)

const (
	// Mark is that of the packets with which weave itself asks Docker's resolver.
	Mark = 0x77656176
	// Alive is how long the table leads questions to weave after each Refresh.
	Alive = 5 * time.Second

	resolverPort = 53
	readTimeout  = 5 * time.Second // the kernel has answered when send returns, so it only guards against no answer
	flagOwner    = 2               // NFT_TABLE_F_OWNER
	aliveSet     = "alive"
	chain        = "output"
)

// Resolver is the address of Docker's resolver, in each sandbox.
var Resolver = netip.MustParseAddr("127.0.0.11")

// DockersResolver returns where Docker's resolver is, for a socket of IPv4.
func DockersResolver() *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: Resolver.As4(), Port: resolverPort}
}

// ErrNoOwner means that the kernel has no tables that belong to a socket.
var ErrNoOwner = errors.New("the kernel has no nftables, or none whose tables have an owner, as since Linux 5.12")

// Dial opens a netlink socket in the namespace of the calling thread. The table belongs to it.
func Dial() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("open a netfilter socket: %w", err)
	}
	tv := unix.NsecToTimeval(readTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set the timeout of a netfilter socket: %w", err)
	}
	return fd, nil
}

// Supported returns ErrNoOwner if the kernel can't make the table, in no namespace. It asks in that of the calling
// thread, and changes nothing there.
func Supported() error { return supported(flagOwner) }

func supported(flags uint32) (err error) {
	fd, err := Dial()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	t := newBatch()
	t.change(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		text(unix.NFTA_TABLE_NAME, table), number(unix.NFTA_TABLE_FLAGS, flags))
	message, last := t.open()
	err = send(fd, message, last, nil)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w (%w)", ErrNoOwner, err)
	}
	return err
}

// Redirect makes the table, which belongs to the socket fd: what is asked of Docker's resolver goes to weave's, on
// another port of the same address, which is of the table's name as well. It does nothing until Refresh. What the
// kernel is sent and answers goes to the recorder.
func Redirect(fd int, udpPort, tcpPort uint16, recorder *record.Recorder) error {
	t := newBatch()
	t.change(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		text(unix.NFTA_TABLE_NAME, table), number(unix.NFTA_TABLE_FLAGS, flagOwner))
	t.change(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		text(unix.NFTA_SET_TABLE, table), text(unix.NFTA_SET_NAME, aliveSet),
		number(unix.NFTA_SET_FLAGS, unix.NFT_SET_TIMEOUT), number(unix.NFTA_SET_KEY_TYPE, typeIPv4),
		number(unix.NFTA_SET_KEY_LEN, 4), number(unix.NFTA_SET_ID, 1),
		attr(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(Alive.Milliseconds()))))
	t.change(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, chain), text(unix.NFTA_CHAIN_TYPE, "filter"),
		nest(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_LOCAL_OUT),
			number(unix.NFTA_HOOK_PRIORITY, priorityRaw)))
	for _, p := range []struct {
		protocol byte
		checksum uint32
		port     uint16
	}{
		{unix.IPPROTO_UDP, checksumUDP, udpPort},
		{unix.IPPROTO_TCP, checksumTCP, tcpPort},
	} {
		addRule(t, question(p.protocol, p.checksum, p.port)...)
		addRule(t, answer(p.protocol, p.checksum, p.port)...)
	}
	return commit(fd, t, recorder)
}

// Refresh has the table, which belongs to the socket fd, lead questions to weave from now on, for Alive.
func Refresh(fd int) error {
	t := newBatch()
	// The kernel extends the time of an element that is there since Linux 6.12 only. A new one in its place has the
	// full time; the first message makes one for the second to remove when the time has run out.
	t.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, aliveElement()...)
	t.change(unix.NFT_MSG_DELSETELEM, 0, aliveElement()...)
	t.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, aliveElement()...)
	return commit(fd, t, nil)
}

func aliveElement() [][]byte {
	key := nest(unix.NFTA_SET_ELEM_KEY, attr(unix.NFTA_DATA_VALUE, Resolver.AsSlice()))
	return [][]byte{
		text(unix.NFTA_SET_ELEM_LIST_TABLE, table), text(unix.NFTA_SET_ELEM_LIST_SET, aliveSet),
		nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nest(unix.NFTA_LIST_ELEM, key)),
	}
}

// commit has the kernel do a transaction and returns its first error about it.
func commit(fd int, t *batch, recorder *record.Recorder) error {
	message, last := t.end()
	return send(fd, message, last, recorder)
}

// send sends a transaction, whose last change has that sequence number, and returns the kernel's first error about it.
func send(fd int, message []byte, last uint32, recorder *record.Recorder) error {
	recorder.Sent(unix.NETLINK_NETFILTER, message)
	if _, err := unix.Write(fd, message); err != nil {
		return fmt.Errorf("netfilter send: %w", err)
	}
	var refused error
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netfilter receive: %w", err)
		}
		recorder.Received(unix.NETLINK_NETFILTER, buf[:n])
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN+4; {
			size, typ, seq := int(native.Uint32(b)), native.Uint16(b[4:]), native.Uint32(b[8:])
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return fmt.Errorf("netfilter receive: a message says that it has %d bytes, there are %d", size, len(b))
			}
			if typ == unix.NLMSG_ERROR {
				if code := int32(native.Uint32(b[unix.NLMSG_HDRLEN:])); code != 0 && refused == nil {
					refused = fmt.Errorf("%s: %w", changeName(message, seq), unix.Errno(-code))
				}
				if seq == last || seq == 0 { // 0: the transaction as a whole
					return refused
				}
			}
			b = b[min(align(size), len(b)):]
		}
	}
}
