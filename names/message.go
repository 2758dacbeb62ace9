// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	timeToLive = 5    // of an answer, seconds
	minUDP     = 512  // bytes of an answer that each client takes by UDP
	maxUDP     = 4096 // and of one to a client that says that it takes more
	maxMessage = 1<<16 - 1
	headerSize = 12
)

// errNoQuestion means that a message is not one question.
var errNoQuestion = errors.New("it is not one question")

// isQuestion reports whether a message is a question by its header, so that there may be an answer to it.
func isQuestion(message []byte) bool {
	const response = 1 << 7
	return len(message) >= headerSize && message[2]&response == 0
}

// question is one question for a name.
type question struct {
	header  dnsmessage.Header
	what    dnsmessage.Question
	extends bool // it has an OPT record (EDNS), and so has the answer
	limit   int  // bytes of an answer by UDP
}

// parseQuestion decodes a message, which has to be one question, for a name whose labels have no dots in them.
func parseQuestion(message []byte) (q question, err error) {
	var p dnsmessage.Parser
	if q.header, err = p.Start(message); err != nil {
		return q, err
	}
	if q.header.Response || binary.BigEndian.Uint16(message[4:]) != 1 {
		return q, errNoQuestion
	}
	if q.what, err = p.Question(); err != nil {
		return q, err
	}
	if err := errors.Join(p.SkipAllQuestions(), p.SkipAllAnswers(), p.SkipAllAuthorities()); err != nil {
		return q, err
	}
	q.limit = minUDP
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return q, nil
		}
		if err != nil {
			return q, err
		}
		if h.Type == dnsmessage.TypeOPT {
			q.extends, q.limit = true, min(max(int(h.Class), minUDP), maxUDP)
		}
		if err := p.SkipAdditional(); err != nil {
			return q, err
		}
	}
}

// head returns the beginning of a message with its first question, which is all of it that an answer repeats; only the
// header, if that question can't be made out.
func head(message []byte) []byte {
	const typeAndClass = 4
	for i := headerSize; i < len(message) && message[i] <= 63; i += 1 + int(message[i]) {
		if end := i + 1 + typeAndClass; message[i] == 0 && end <= len(message) {
			return message[:end]
		}
	}
	return message[:headerSize]
}

// isAnswer reports whether a message, whatever its id, may be an answer to the question that has that head. An answer
// to what was no question for Docker's resolver has none.
func isAnswer(message, question []byte) bool {
	repeated := head(message)[headerSize:]
	return !isQuestion(message) && (len(repeated) == 0 || bytes.EqualFold(repeated, question[headerSize:]))
}

// failure returns the answer to a message that there is none at the moment (SERVFAIL): the client does not wait then.
func failure(message []byte) []byte {
	const response, available, serverFailure = 1 << 7, 1 << 7, 2
	answer := slices.Clone(head(message))
	answer[2] |= response
	answer[3] = available | serverFailure
	clear(answer[4:headerSize])
	if len(answer) > headerSize {
		answer[5] = 1 // question
	}
	return answer
}

// answer returns the answer for a container on these networks, of at most limit bytes, truncated if it is longer; nil:
// Docker's resolver is to be asked.
func (d directory) answer(q question, on []Attachment, limit int) ([]byte, error) {
	if q.header.OpCode != 0 || q.what.Class != dnsmessage.ClassINET {
		return nil, nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.what.Name.String(), "."))
	if q.what.Type == dnsmessage.TypePTR {
		if addr, ok := addressOf(name); ok {
			if found := d.nameOf(addr, on); found != "" {
				return q.pointTo(found)
			}
		}
		return nil, nil
	}
	addresses, ok := d.lookup(name, on)
	if !ok {
		return nil, nil
	}
	switch q.what.Type {
	case dnsmessage.TypeA:
		return q.addresses(rotated(addresses, false), limit)
	case dnsmessage.TypeAAAA:
		return q.addresses(rotated(addresses, true), limit)
	}
	return q.addresses(nil, limit) // the name exists: what the outside says of it does not matter
}

// addresses returns the answer with as many of the addresses, all of one family, as fit.
func (q question) addresses(addresses []netip.Addr, limit int) ([]byte, error) {
	const perRecord = 2 + 10 // a pointer to the question's name, and type, class, time to live and length
	room := limit - headerSize - (int(q.what.Name.Length) + 1 + 4)
	if q.extends {
		room -= 11
	}
	fit := len(addresses)
	if fit > 0 {
		fit = max(0, min(fit, room/(perRecord+addresses[0].BitLen()/8)))
	}
	b, err := q.begin(fit < len(addresses))
	if err != nil {
		return nil, err
	}
	for _, a := range addresses[:fit] {
		if a.Is4() {
			err = b.AResource(q.resource(), dnsmessage.AResource{A: a.As4()})
		} else {
			err = b.AAAAResource(q.resource(), dnsmessage.AAAAResource{AAAA: a.As16()})
		}
		if err != nil {
			return nil, err
		}
	}
	return q.finish(b)
}

// pointTo returns the answer with a name.
func (q question) pointTo(name string) ([]byte, error) {
	target, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	b, err := q.begin(false)
	if err != nil {
		return nil, err
	}
	if err := b.PTRResource(q.resource(), dnsmessage.PTRResource{PTR: target}); err != nil {
		return nil, err
	}
	return q.finish(b)
}

func (q question) begin(truncated bool) (*dnsmessage.Builder, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: q.header.ID, Response: true, RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true,
		Truncated: truncated,
	})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q.what); err != nil {
		return nil, err
	}
	return &b, b.StartAnswers()
}

func (q question) resource() dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: q.what.Name, Class: dnsmessage.ClassINET, TTL: timeToLive}
}

func (q question) finish(b *dnsmessage.Builder) ([]byte, error) {
	if q.extends {
		var h dnsmessage.ResourceHeader
		err := errors.Join(b.StartAdditionals(), h.SetEDNS0(maxUDP, dnsmessage.RCodeSuccess, false))
		if err == nil {
			err = b.OPTResource(h, dnsmessage.OPTResource{})
		}
		if err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// addressOf returns the address that a name of a PTR record, in lower case and without a dot at its end, is of.
func addressOf(name string) (addr netip.Addr, ok bool) {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(v4, ".")
		slices.Reverse(parts)
		addr, err := netip.ParseAddr(strings.Join(parts, "."))
		return addr, err == nil && addr.Is4()
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(v6, ".")
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 16, 4); err != nil || len(p) != 1 {
			return netip.Addr{}, false
		}
	}
	slices.Reverse(parts)
	b, err := hex.DecodeString(strings.Join(parts, ""))
	if err != nil || len(b) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b)), true
}
