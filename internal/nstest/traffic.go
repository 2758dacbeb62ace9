// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

const (
	streamSize   = 64 << 10 // bytes that go each way over TCP: full-size frames among them
	datagramSize = 1200     // bytes of a datagram, less than any MTU that IPv6 allows
	resendAfter  = 20 * time.Millisecond
)

// Place is an address of a namespace.
type Place struct {
	NS   *NS
	Addr netip.Addr // usable: not one that IPv6 still checks for duplicates
}

// ErrTranslated is wrapped by errors that say that traffic passed, but with another source.
var ErrTranslated = errors.New("the source was translated")

// Traffic opens a TCP connection and a UDP flow from one place to another and has data echoed over each. Both have
// ports that were not used before, so that the kernel tracks new connections: for those of a repeated ping it would
// go on as it has begun, whatever a firewall says meanwhile. It returns what did not work before ctx ends; that an
// address or a port was translated on the way is ErrTranslated.
func Traffic(ctx context.Context, t testing.TB, from, to Place) error {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var errs []error
	for _, flow := range []struct {
		name string
		do   func(context.Context, testing.TB, Place, Place) error
	}{{"TCP", stream}, {"UDP", datagrams}} {
		if err := flow.do(ctx, t, from, to); err != nil {
			errs = append(errs, fmt.Errorf("%s from %s to %s: %w", flow.name, from.Addr, to.Addr, err))
		}
	}
	return errors.Join(errs...)
}

// stream sends streamSize bytes over a TCP connection, which the other side sends back.
func stream(ctx context.Context, t testing.TB, from, to Place) error {
	t.Helper()
	var listener net.Listener
	to.NS.Do(t, func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(to.Addr, 0).String())
		return err
	})
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	defer listener.Close()
	var dialled net.Conn
	var err error
	from.NS.Do(t, func() error { // an address without a zone and a name is dialled by this goroutine
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.Addr.AsSlice()}}
		dialled, err = d.DialContext(ctx, "tcp", listener.Addr().String())
		return nil
	})
	if err != nil {
		return err
	}
	defer dialled.Close()
	accepted, err := listener.Accept()
	if err != nil {
		return err
	}
	defer accepted.Close()
	defer context.AfterFunc(ctx, func() { dialled.Close(); accepted.Close() })()
	go func() { _, _ = io.CopyN(accepted, accepted, streamSize) }() // ends with the connection
	data := bytes.Repeat([]byte("weave"), streamSize/5+1)[:streamSize]
	sent := make(chan error, 1)
	go func() { _, err := dialled.Write(data); sent <- err }()
	echo := make([]byte, streamSize)
	if _, err := io.ReadFull(dialled, echo); err != nil {
		return fmt.Errorf("the echo: %w", err)
	}
	if !bytes.Equal(data, echo) {
		return errors.New("the echo differs")
	}
	if err := <-sent; err != nil {
		return err
	}
	return checkSource(accepted.RemoteAddr().String(), dialled.LocalAddr().String())
}

func checkSource(got, want string) error {
	if got != want {
		return fmt.Errorf("%w: it is %s there, not %s", ErrTranslated, got, want)
	}
	return nil
}

// datagrams sends a datagram again and again until it has come back.
func datagrams(ctx context.Context, t testing.TB, from, to Place) error {
	t.Helper()
	var there net.PacketConn
	to.NS.Do(t, func() (err error) {
		there, err = net.ListenPacket("udp", netip.AddrPortFrom(to.Addr, 0).String())
		return err
	})
	defer func() { _ = there.Close() }()
	var here net.Conn
	from.NS.Do(t, func() (err error) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: from.Addr.AsSlice()}}
		here, err = d.Dial("udp", there.LocalAddr().String()) // sends nothing, so it waits for nothing
		return err
	})
	defer here.Close()
	source := make(chan string, 1)
	go func() { // ends when there is closed
		data := make([]byte, 2*datagramSize)
		for {
			n, addr, err := there.ReadFrom(data)
			if err != nil {
				return
			}
			select {
			case source <- addr.String():
			default:
			}
			_, _ = there.WriteTo(data[:n], addr)
		}
	}()
	data := bytes.Repeat([]byte{'w'}, datagramSize)
	for ctx.Err() == nil {
		_, _ = here.Write(data) // an earlier one may have been answered with an ICMP error
		if err := here.SetReadDeadline(time.Now().Add(resendAfter)); err != nil {
			return err
		}
		n, err := here.Read(make([]byte, 2*datagramSize))
		if err == nil && n == len(data) {
			return checkSource(<-source, here.LocalAddr().String())
		}
	}
	return fmt.Errorf("no echo: %w", context.Cause(ctx))
}
