// SPDX-License-Identifier: Apache-2.0

package troubles

// Host are troubles of a host, of which weave check names the part.
var Host = List{
	Title: "On a host",
	About: "`weave check` looks at the host, and names each part that fails or may fail soon; " +
		"[debugging](debugging.md#what-is-wrong-with-the-host) has the parts.",
	Troubles: []Trouble{
		{
			Name:     "a rule drops what leaves networks",
			Sees:     "containers reach each other, and nothing outside",
			Verdict:  "way-out",
			Evidence: "what leaves networks, or answers to it,",
			Why:      "a rule of another program stands before weave's in FORWARD",
			Do:       "let weave's bridges (`wvg-+`) pass before that rule, or remove it",
		},
		{
			Name:     "a table of nftables drops what it does not know",
			Sees:     "the same, after a firewall of nftables' own was set up",
			Verdict:  "way-out",
			Evidence: "its policy",
			Why:      "each table decides for itself: what iptables' FORWARD accepts may be dropped in another one",
			Do:       "accept there what has `iifname \"wvg-*\"`, and answers to `oifname \"wvg-*\"`",
		},
		{
			Name:     "a rule drops frames inside a network",
			Sees:     "containers of a network with `works.weave.firewall=host` don't reach each other",
			Verdict:  "inside",
			Evidence: "frames inside",
			Why:      "the network obeys the host's rules, and one of them drops its frames",
			Do:       "let the bridge pass before that rule, or make the network without that option",
		},
		{
			Name:     "a rule of others translates",
			Sees:     "with `works.weave.nat=no` servers see the host's address, not the container's",
			Verdict:  "translation",
			Evidence: "is to keep its address",
			Why:      "a rule of another program masquerades all that leaves the host",
			Do:       "have that rule leave out the network's subnet (`! -s SUBNET`)",
		},
		{
			Name:     "an address is there twice",
			Sees:     "connections to a container break, or reach another one",
			Verdict:  "addresses",
			Evidence: "is also at",
			Why:      "a container, or a machine on a bridge of yours, has given itself another one's address",
			Do:       "`weave ps` shows whose the MAC is; give it another one, or reserve this one (`--aux-address`)",
		},
		{
			Name:     "a container has set its link down",
			Sees:     "a container is not reached, and reaches nobody",
			Verdict:  "endpoints",
			Evidence: "eth0 down",
			Why:      "the host end of its veth pair has no carrier while the other end is down",
			Do:       "set it up in the container, or restart it",
		},
		{
			Name:     "a route of a VPN leads into a subnet",
			Sees:     "containers reach nothing outside, since a VPN is up",
			Verdict:  "subnets",
			Evidence: "answers don't reach the containers there",
			Why:      "the host sends what is for the containers into the VPN",
			Do:       "make the network again with another subnet, or have the VPN leave out that route",
		},
		{
			Name:     "the table of neighbours is nearly full",
			Sees:     "some of many containers don't find others (`neighbour table overflow` in the kernel's log)",
			Verdict:  "neighbours",
			Evidence: "(gc_thresh3)",
			Why:      "all containers share one table of the kernel's",
			Do:       "`sysctl -w net.ipv4.neigh.default.gc_thresh3=8192`, for IPv6 likewise, and gc_thresh1 and 2",
		},
		{
			Name:     "a bridge is nearly full",
			Sees:     "`network is full`, soon",
			Verdict:  "ports",
			Evidence: "of 1023 ports",
			Why:      "a Linux bridge has 1,023 ports",
			Do:       "use a second network",
		},
		{
			Name:     "Docker does not know an endpoint",
			Sees:     "`weave ps` shows an endpoint without a container",
			Verdict:  "forgotten",
			Evidence: "Docker does not know endpoint",
			Why:      "Docker was killed, or forgot it while weave did not run",
			Do:       "nothing: weave releases it some minutes later; if it stays, restart Docker",
		},
		{
			Name:     "two ways out with a strict filter",
			Sees:     "a host with two uplinks is reached by one of them only",
			Verdict:  "reverse-path",
			Evidence: "rp_filter is 1",
			Why:      "what comes by the link that the host does not answer by is dropped",
			Do:       "set `rp_filter` of that link to 2",
		},
	},
}
