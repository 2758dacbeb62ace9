// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The MTUs that a route may have, in bytes: those of IPv4 links.
const (
	minMTU = 68
	maxMTU = 65535
)

// ErrVersion means that the plugin and nsproc are of different releases.
var ErrVersion = errors.New("install the plugin and nsproc of the same release")

// listRequest is the request that a live listing sends. ReadRequest compares with it first: decoding it as JSON would
// take nsproc longer than reading all links from the kernel.
const listRequest = `{"version":1,"list":{}}`

// ReadRequest reads r to its end, which has to contain one request. Another version (ErrVersion), an unknown field, and
// anything but exactly one of the requests are errors.
func ReadRequest(r io.Reader) (*Request, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxRequest+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read request: %w", err)
	case len(b) == 0:
		return nil, fmt.Errorf("read request: %w", io.ErrUnexpectedEOF)
	case len(b) > MaxRequest:
		return nil, fmt.Errorf("read request: more than %d bytes", MaxRequest)
	}
	if string(b) == listRequest {
		return &Request{Version: Version, List: &List{}}, nil
	}
	var req Request
	if err := decodeMessage(b, &req, &req.Version, "the plugin", "nsproc"); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	if err := req.check(); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	return &req, nil
}

// check returns an error unless exactly one of the requests is set, and its fields have values that are accepted.
func (r *Request) check() error {
	set := 0
	for _, is := range []bool{r.List != nil, r.Configure != nil, r.Limit != nil, r.Names != nil, r.Packets != nil,
		r.Probes != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return errors.New("want exactly one of list, configure, limit, names, packets and probes")
	case r.Configure != nil:
		return r.Configure.Check()
	case r.Limit != nil:
		return r.Limit.Check()
	}
	return nil
}

// Check returns an error if a field has a value that ReadRequest does not accept.
func (l *Limit) Check() error {
	if l.Peer <= 0 {
		return fmt.Errorf("peer %d: want the index of a link, from 1", l.Peer)
	}
	if l.MTU < minMTU || l.MTU > maxMTU {
		return fmt.Errorf("mtu %d: want %d..%d", l.MTU, minMTU, maxMTU)
	}
	return nil
}

// Check returns an error if a field has a value that ReadRequest does not accept.
func (c *Configure) Check() error {
	if c.Peer <= 0 {
		return fmt.Errorf("peer %d: want the index of a link, from 1", c.Peer)
	}
	if c.MAC.IsZero() {
		return errors.New("mac: want the container end's")
	}
	if a := c.IPv6Gateway; a.IsValid() && (!a.Is6() || a.Is4In6() || a.Zone() != "") {
		return fmt.Errorf("gateway %s: want an IPv6 address", a)
	}
	for _, a := range c.Gateways {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("gateway %s: want an IPv4 or IPv6 address", a)
		}
	}
	for _, a := range c.Addresses {
		if !a.IsValid() || a.Addr().Is4In6() {
			return fmt.Errorf("address %s: want an IPv4 or IPv6 address with its prefix length", a)
		}
	}
	return nil
}

// DecodeReply decodes a Reply. If it has an Error, that is the error returned.
func DecodeReply(b []byte) (*Reply, error) {
	var reply Reply
	if err := decodeMessage(b, &reply, &reply.Version, "nsproc", "the plugin"); err != nil {
		return nil, fmt.Errorf("decode reply: %w", err)
	}
	if reply.Error != nil {
		return nil, reply.Error
	}
	return &reply, nil
}

// decodeMessage decodes b into message, version being its field for the version. A message of another version, which
// may have unknown fields, results in ErrVersion.
func decodeMessage(b []byte, message any, version *int, from, to string) error {
	err := decode(b, message)
	if err != nil {
		var m struct {
			Version int `json:"version"`
		}
		if json.Unmarshal(b, &m) != nil {
			return err
		}
		*version = m.Version
	}
	if *version != Version {
		return fmt.Errorf("%s speaks version %d, %s version %d: %w", from, *version, to, Version, ErrVersion)
	}
	return err
}

// decode decodes b, exactly one JSON value, into a struct that has all of its fields.
func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}
