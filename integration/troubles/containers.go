// SPDX-License-Identifier: Apache-2.0

package troubles

// Containers are troubles between two containers, of which weave check FROM TO names the layer.
var Containers = List{
	Title: "Between two containers",
	About: "`weave check FROM TO [--port N]` names the first layer that fails; [debugging](debugging.md) has the layers.",
	Troubles: []Trouble{
		{
			Name:     "nobody listens",
			Sees:     "`Connection refused`",
			Verdict:  "listener",
			Evidence: "nobody listens at port",
			Why:      "the program does not run, or listens at another port",
			Do:       "`weave inspect` shows what the container listens at",
		},
		{
			Name:     "it listens at 127.0.0.1",
			Sees:     "`Connection refused`, though the program runs and answers inside its container",
			Verdict:  "listener",
			Evidence: "of 127.0.0.1 only",
			Why:      "it listens for its own container only",
			Do:       "have it listen at 0.0.0.0 or ::",
		},
		{
			Name:     "the sender has lost its address",
			Sees:     "`Network is unreachable`, of all destinations",
			Verdict:  "from",
			Evidence: "missing",
			Why:      "a program in the container has removed it",
			Do:       "restart the container",
		},
		{
			Name:     "another route wins",
			Sees:     "no answer, or one of somebody else",
			Verdict:  "route",
			Evidence: "out of lo",
			Why:      "a more special route in the container leads out of another link, often that of a VPN",
			Do:       "`ip route get ADDRESS` in the container shows it; remove it",
		},
		{
			Name:     "the receiver is down",
			Sees:     "`No route to host`",
			Verdict:  "to",
			Evidence: "eth0 down",
			Why:      "a program in the container has set its link down",
			Do:       "set it up, or restart the container",
		},
		{
			Name:     "a stale neighbour",
			Sees:     "no answer to one container only, others reach it",
			Verdict:  "neighbour",
			Evidence: "is at 02:00:00:00:00:99",
			Why:      "the sender's ARP entry is that of somebody who has had the address, or has it, too",
			Do:       "`weave ps` shows whose the MAC is; `ip neighbour flush dev eth0` in the sender",
		},
		{
			Name:     "the receiver answers no ARP",
			Sees:     "`No route to host`",
			Verdict:  "neighbour",
			Evidence: "nobody answers",
			Why:      "the question or the answer is lost, or ARP is off in the receiver",
			Do:       "`weave capture FROM TO --filter arp` shows how far it gets",
		},
		{
			Name:     "a small MTU",
			Sees:     "`ping` works, and large answers by TCP hang",
			Verdict:  "size",
			Evidence: "packets of 1500 bytes get no answer, small ones do",
			Why:      "one end has a smaller MTU than the other, which is told to nobody inside a network",
			Do:       "give both ends the network's MTU",
		},
		{
			Name:     "a firewall in the container refuses",
			Sees:     "`Connection refused`, though the program listens",
			Verdict:  "connection",
			Evidence: "refuses the connection",
			Why:      "a firewall in the receiver, such as one of its own iptables rules",
			Do:       "`iptables -S` or `nft list ruleset` in the container",
		},
	},
}
