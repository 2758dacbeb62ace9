// SPDX-License-Identifier: Apache-2.0

// Command seen shows who reaches whom, and by which address the one is seen by the other. Both run in the network
// namespaces that a test has them started in:
//
//	seen serve               answers at every address of the namespace, over TCP and UDP, with the address that asks,
//	                         until its standard input ends
//	seen ask ADDRESS...      asks all at once; prints a line for each answer: PROTOCOL ADDRESS SEEN
//
// PROTOCOL is tcp, udp, or icmp, for which SEEN is a dash. What has not answered after a second does not answer.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	port   = "4321"
	limit  = time.Second            // for an answer
	resend = 250 * time.Millisecond // after which a datagram is sent again
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "seen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve()
	case len(args) > 1 && args[0] == "ask":
		ask(args[1:])
		return nil
	}
	return errors.New("want serve, or ask and addresses")
}

// serve listens at each address by itself, so that the answer to a datagram comes from the address that was asked.
func serve() error {
	addresses, err := ownAddresses()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		at := net.JoinHostPort(address, port)
		streams, err := net.Listen("tcp", at)
		if errors.Is(err, syscall.EADDRNOTAVAIL) && strings.Contains(address, "%") {
			continue // the kernel still looks whether another on the link has it
		}
		if err != nil {
			return err
		}
		datagrams, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		go answerStreams(streams)
		go answerDatagrams(datagrams)
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin) // which ends with the test, however that ends
	return err
}

// ownAddresses returns the addresses of the namespace; those of one link only with its name, as %eth0.
func ownAddresses() ([]string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, link := range links {
		addresses, err := link.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			ip := a.(*net.IPNet).IP
			text := ip.String()
			if ip.IsLinkLocalUnicast() {
				text += "%" + link.Name
			}
			out = append(out, text)
		}
	}
	return out, nil
}

func answerStreams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		_, _ = io.WriteString(c, host) // who is gone asks again
		c.Close()
	}
}

func answerDatagrams(c net.PacketConn) {
	b := make([]byte, 1)
	for {
		_, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(from.String())
		_, _ = c.WriteTo([]byte(host), from)
	}
}

// ask prints the answers of the addresses.
func ask(addresses []string) {
	var all sync.WaitGroup
	var printing sync.Mutex
	for protocol, question := range map[string]func(address string) (string, error){
		"tcp": askStream, "udp": askDatagram, "icmp": askEcho,
	} {
		for _, address := range addresses {
			all.Go(func() {
				seen, err := question(address)
				if err != nil {
					return
				}
				printing.Lock()
				defer printing.Unlock()
				fmt.Println(protocol, address, seen)
			})
		}
	}
	all.Wait()
}

func askStream(address string) (string, error) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), limit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

func askDatagram(address string) (string, error) {
	c, err := net.Dial("udp", net.JoinHostPort(address, port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	b := make([]byte, 64)
	for range limit / resend {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
		if err := c.SetReadDeadline(time.Now().Add(resend)); err != nil {
			return "", err
		}
		n, err := c.Read(b)
		if err == nil {
			return string(b[:n]), nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return "", err
		}
	}
	return "", os.ErrDeadlineExceeded
}

func askEcho(address string) (string, error) {
	return "-", exec.Command("ping", "-n", "-c1", "-W", fmt.Sprint(limit.Seconds()), address).Run()
}
