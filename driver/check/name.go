// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// resolver is Docker's, which each container on a network that is not Docker's default one asks.
var resolver = netip.MustParseAddrPort("127.0.0.11:53")

// askTime is how long the resolver may take. It asks the outside for what it does not know.
const askTime = 2 * time.Second

// errNoName means that the resolver knows no such name.
var errNoName = errors.New("there is no such name")

// answer is what the resolver says of a name.
type answer struct {
	addresses []netip.Addr // of the family of the question
	err       error
}

// ask asks the container's resolver for the addresses of a name.
func (p *prober) ask(ctx context.Context, name string) answer {
	addresses, err := askFor(ctx, p.sockets[protocol.SocketAsk], name, p.to.Addr().Is6())
	return answer{addresses, err}
}

func askFor(ctx context.Context, fd int, name string, ipv6 bool) ([]netip.Addr, error) {
	asked, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: asked, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	if ipv6 {
		q.Questions[0].Type = dnsmessage.TypeAAAA
	}
	packed, err := q.Pack()
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sockaddr(resolver)); err != nil {
		return nil, err
	}
	if _, err := unix.Write(fd, packed); err != nil {
		return nil, err
	}
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(askTime); ; {
		if err := await(ctx, fd, unix.POLLIN, deadline); err != nil {
			return nil, err
		}
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) == nil && m.Response && m.ID == q.ID {
			return addressesIn(m)
		}
	}
}

// addressesIn returns the addresses of an answer.
func addressesIn(m dnsmessage.Message) (addresses []netip.Addr, err error) {
	if m.RCode != dnsmessage.RCodeSuccess && m.RCode != dnsmessage.RCodeNameError {
		return nil, fmt.Errorf("the resolver says %v", m.RCode)
	}
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			addresses = append(addresses, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			addresses = append(addresses, netip.AddrFrom16(body.AAAA))
		}
	}
	if len(addresses) == 0 {
		return nil, errNoName
	}
	return addresses, nil
}
