// SPDX-License-Identifier: Apache-2.0

// Command multicast sends and receives multicast datagrams in a test's container:
//
//	multicast receive GROUP:PORT LINK    joins the group on LINK, prints "ready" and then each datagram on a line
//	multicast send GROUP:PORT TEXT       sends TEXT, by the route to the group
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "multicast:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want receive GROUP:PORT LINK or send GROUP:PORT TEXT")
	}
	group, err := net.ResolveUDPAddr("udp4", args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "receive":
		return receive(group, args[2])
	case "send":
		return send(group, args[2])
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func receive(group *net.UDPAddr, name string) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	c, err := net.ListenMulticastUDP("udp4", link, group)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for b := make([]byte, 1500); ; {
		n, _, err := c.ReadFromUDP(b)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", b[:n])
	}
}

func send(group *net.UDPAddr, text string) error {
	c, err := net.DialUDP("udp4", nil, group)
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(text))
	return err
}
