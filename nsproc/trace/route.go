// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// routeKinds are the messages of rtnetlink, by the type of that which makes what they are about.
var routeKinds = map[uint16]kind{
	unix.RTM_NEWLINK:  {header: unix.SizeofIfInfomsg, fields: ofLink, attributes: linkAttributes},
	unix.RTM_NEWADDR:  {header: unix.SizeofIfAddrmsg, fields: ofAddress, attributes: addressAttributes},
	unix.RTM_NEWROUTE: {header: unix.SizeofRtMsg, fields: ofRoute, attributes: routeAttributes},
	unix.RTM_NEWNEIGH: {header: unix.SizeofNdMsg, fields: ofNeighbour, attributes: neighbourAttributes},
	unix.RTM_NEWRULE:  {header: rtnl.SizeofRuleMsg, fields: ofRule, attributes: ruleAttributes},
}

// ofLink puts a struct ifinfomsg into words.
func ofLink(b []byte) string {
	flags := joinBits(native.Uint32(b[8:]), func(bit uint32) string { return linkFlags[bit] })
	return fmt.Sprintf("family=%s index=%d flags=%s", family(b[0]), native.Uint32(b[4:]), orNone(flags))
}

// linkFlags are those of a link that say something (netdevice(7)).
var linkFlags = map[uint32]string{
	unix.IFF_UP: "UP", unix.IFF_BROADCAST: "BROADCAST", unix.IFF_LOOPBACK: "LOOPBACK",
	unix.IFF_POINTOPOINT: "POINTOPOINT", unix.IFF_RUNNING: "RUNNING", unix.IFF_NOARP: "NOARP",
	unix.IFF_PROMISC: "PROMISC", unix.IFF_ALLMULTI: "ALLMULTI", unix.IFF_MULTICAST: "MULTICAST",
	unix.IFF_LOWER_UP: "LOWER_UP", unix.IFF_DORMANT: "DORMANT",
}

// ofAddress puts a struct ifaddrmsg into words.
func ofAddress(b []byte) string {
	return fmt.Sprintf("family=%s prefix=%d scope=%s link=%d",
		family(b[0]), b[1], nameOf(scopes, b[3]), native.Uint32(b[4:]))
}

// ofRoute puts a struct rtmsg into words.
func ofRoute(b []byte) string {
	return fmt.Sprintf("family=%s prefix=%d table=%s protocol=%s scope=%s type=%s", family(b[0]), b[1],
		nameOf(tables, b[4]), nameOf(routeProtocols, b[5]), nameOf(scopes, b[6]), nameOf(routeTypes, b[7]))
}

// The names are those of ip-route(8).
var (
	tables = map[byte]string{
		unix.RT_TABLE_UNSPEC: "unspec", unix.RT_TABLE_DEFAULT: "default", unix.RT_TABLE_MAIN: "main",
		unix.RT_TABLE_LOCAL: "local",
	}
	routeProtocols = map[byte]string{
		unix.RTPROT_UNSPEC: "unspec", unix.RTPROT_REDIRECT: "redirect", unix.RTPROT_KERNEL: "kernel",
		unix.RTPROT_BOOT: "boot", unix.RTPROT_STATIC: "static", unix.RTPROT_RA: "ra", unix.RTPROT_DHCP: "dhcp",
	}
	scopes = map[byte]string{
		unix.RT_SCOPE_UNIVERSE: "global", unix.RT_SCOPE_SITE: "site", unix.RT_SCOPE_LINK: "link",
		unix.RT_SCOPE_HOST: "host", unix.RT_SCOPE_NOWHERE: "nowhere",
	}
	routeTypes = map[byte]string{
		unix.RTN_UNSPEC: "unspec", unix.RTN_UNICAST: "unicast", unix.RTN_LOCAL: "local",
		unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast",
		unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit",
		unix.RTN_THROW: "throw", unix.RTN_NAT: "nat",
	}
)

// nameOf returns the name of a number, or the number.
func nameOf(names map[byte]string, n byte) string {
	if name := names[n]; name != "" {
		return name
	}
	return strconv.Itoa(int(n))
}

// ofNeighbour puts a struct ndmsg into words.
func ofNeighbour(b []byte) string {
	state := joinBits(uint32(native.Uint16(b[8:])), func(bit uint32) string { return neighbourStates[bit] })
	return fmt.Sprintf("family=%s link=%d state=%s", family(b[0]), native.Uint32(b[4:]), orNone(state))
}

var neighbourStates = map[uint32]string{
	unix.NUD_INCOMPLETE: "INCOMPLETE", unix.NUD_REACHABLE: "REACHABLE", unix.NUD_STALE: "STALE",
	unix.NUD_DELAY: "DELAY", unix.NUD_PROBE: "PROBE", unix.NUD_FAILED: "FAILED", unix.NUD_NOARP: "NOARP",
	unix.NUD_PERMANENT: "PERMANENT",
}

// ofRule puts a struct fib_rule_hdr into words.
func ofRule(b []byte) string {
	return fmt.Sprintf("family=%s to=/%d from=/%d table=%s action=%d", family(b[0]), b[1], b[2],
		nameOf(tables, b[4]), b[7])
}

// ruleAttributes are FRA_* of linux/fib_rules.h that nsproc reads.
var ruleAttributes = attributes{
	unix.FRA_DST:                {name: "FRA_DST", value: address},
	unix.FRA_SRC:                {name: "FRA_SRC", value: address},
	unix.FRA_IIFNAME:            {name: "FRA_IIFNAME", value: text},
	unix.FRA_OIFNAME:            {name: "FRA_OIFNAME", value: text},
	unix.FRA_PRIORITY:           {name: "FRA_PRIORITY", value: number},
	unix.FRA_FWMARK:             {name: "FRA_FWMARK", value: number},
	unix.FRA_TABLE:              {name: "FRA_TABLE", value: number},
	unix.FRA_FWMASK:             {name: "FRA_FWMASK", value: number},
	unix.FRA_PROTOCOL:           {name: "FRA_PROTOCOL", value: number},
	unix.FRA_SUPPRESS_PREFIXLEN: {name: "FRA_SUPPRESS_PREFIXLEN", value: number},
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// linkAttributes are IFLA_* of linux/if_link.h.
var linkAttributes = named(number,
	"IFLA_ADDRESS", "IFLA_BROADCAST", "IFLA_IFNAME", "IFLA_MTU", "IFLA_LINK", "IFLA_QDISC", "IFLA_STATS", "IFLA_COST",
	"IFLA_PRIORITY", "IFLA_MASTER", "IFLA_WIRELESS", "IFLA_PROTINFO", "IFLA_TXQLEN", "IFLA_MAP", "IFLA_WEIGHT",
	"IFLA_OPERSTATE", "IFLA_LINKMODE", "IFLA_LINKINFO", "IFLA_NET_NS_PID", "IFLA_IFALIAS", "IFLA_NUM_VF",
	"IFLA_VFINFO_LIST", "IFLA_STATS64", "IFLA_VF_PORTS", "IFLA_PORT_SELF", "IFLA_AF_SPEC", "IFLA_GROUP",
	"IFLA_NET_NS_FD", "IFLA_EXT_MASK", "IFLA_PROMISCUITY", "IFLA_NUM_TX_QUEUES", "IFLA_NUM_RX_QUEUES", "IFLA_CARRIER",
	"IFLA_PHYS_PORT_ID", "IFLA_CARRIER_CHANGES", "IFLA_PHYS_SWITCH_ID", "IFLA_LINK_NETNSID", "IFLA_PHYS_PORT_NAME",
	"IFLA_PROTO_DOWN", "IFLA_GSO_MAX_SEGS", "IFLA_GSO_MAX_SIZE", "IFLA_PAD", "IFLA_XDP", "IFLA_EVENT",
	"IFLA_NEW_NETNSID", "IFLA_TARGET_NETNSID", "IFLA_CARRIER_UP_COUNT", "IFLA_CARRIER_DOWN_COUNT", "IFLA_NEW_IFINDEX",
	"IFLA_MIN_MTU", "IFLA_MAX_MTU", "IFLA_PROP_LIST", "IFLA_ALT_IFNAME", "IFLA_PERM_ADDRESS",
	"IFLA_PROTO_DOWN_REASON", "IFLA_PARENT_DEV_NAME", "IFLA_PARENT_DEV_BUS_NAME", "IFLA_GRO_MAX_SIZE",
	"IFLA_TSO_MAX_SIZE", "IFLA_TSO_MAX_SEGS", "IFLA_ALLMULTI", "IFLA_DEVLINK_PORT", "IFLA_GSO_IPV4_MAX_SIZE",
	"IFLA_GRO_IPV4_MAX_SIZE", "IFLA_DPLL_PIN", "IFLA_MAX_PACING_OFFLOAD_HORIZON", "IFLA_NETNS_IMMUTABLE",
	"IFLA_HEADROOM", "IFLA_TAILROOM",
).with(attributes{
	unix.IFLA_ADDRESS: shown(address), unix.IFLA_BROADCAST: shown(address), unix.IFLA_PERM_ADDRESS: shown(address),
	unix.IFLA_IFNAME: shown(text), unix.IFLA_QDISC: shown(text), unix.IFLA_IFALIAS: shown(text),
	unix.IFLA_ALT_IFNAME: shown(text), unix.IFLA_LINKINFO: nested(infoAttributes),
	unix.IFLA_PROP_LIST: nested(attributes{unix.IFLA_ALT_IFNAME: {name: "IFLA_ALT_IFNAME", value: text}}),
})

// infoAttributes are IFLA_INFO_*, what a link is and how it is as a port.
var infoAttributes = attributes{
	unix.IFLA_INFO_KIND:       {name: "IFLA_INFO_KIND", value: text},
	unix.IFLA_INFO_DATA:       {name: "IFLA_INFO_DATA", value: hex},
	unix.IFLA_INFO_XSTATS:     {name: "IFLA_INFO_XSTATS", value: hex},
	unix.IFLA_INFO_SLAVE_KIND: {name: "IFLA_INFO_SLAVE_KIND", value: text},
	unix.IFLA_INFO_SLAVE_DATA: {name: "IFLA_INFO_SLAVE_DATA", value: hex},
}

// ifaProto is IFA_PROTO, since Linux 5.18.
const ifaProto = 11

// addressAttributes are IFA_* of linux/if_addr.h.
var addressAttributes = named(address, "IFA_ADDRESS", "IFA_LOCAL", "IFA_LABEL", "IFA_BROADCAST", "IFA_ANYCAST",
	"IFA_CACHEINFO", "IFA_MULTICAST", "IFA_FLAGS", "IFA_RT_PRIORITY", "IFA_TARGET_NETNSID", "IFA_PROTO",
).with(attributes{
	unix.IFA_LABEL: shown(text), unix.IFA_CACHEINFO: shown(hex), unix.IFA_FLAGS: shown(addressFlags),
	unix.IFA_RT_PRIORITY: shown(number), unix.IFA_TARGET_NETNSID: shown(number), ifaProto: shown(number),
})

// addressFlags shows IFA_FLAGS.
func addressFlags(v []byte) string {
	if len(v) != 4 {
		return hex(v)
	}
	return orNone(joinBits(native.Uint32(v), func(bit uint32) string {
		return map[uint32]string{
			unix.IFA_F_SECONDARY: "SECONDARY", unix.IFA_F_NODAD: "NODAD", unix.IFA_F_OPTIMISTIC: "OPTIMISTIC",
			unix.IFA_F_DADFAILED: "DADFAILED", unix.IFA_F_DEPRECATED: "DEPRECATED", unix.IFA_F_TENTATIVE: "TENTATIVE",
			unix.IFA_F_PERMANENT: "PERMANENT", unix.IFA_F_NOPREFIXROUTE: "NOPREFIXROUTE",
			unix.IFA_F_STABLE_PRIVACY: "STABLE_PRIVACY",
		}[bit]
	}))
}

// routeAttributes are RTA_* of linux/rtnetlink.h.
var routeAttributes = named(number, "RTA_DST", "RTA_SRC", "RTA_IIF", "RTA_OIF", "RTA_GATEWAY", "RTA_PRIORITY",
	"RTA_PREFSRC", "RTA_METRICS", "RTA_MULTIPATH", "RTA_PROTOINFO", "RTA_FLOW", "RTA_CACHEINFO", "RTA_SESSION",
	"RTA_MP_ALGO", "RTA_TABLE", "RTA_MARK", "RTA_MFC_STATS", "RTA_VIA", "RTA_NEWDST", "RTA_PREF", "RTA_ENCAP_TYPE",
	"RTA_ENCAP", "RTA_EXPIRES", "RTA_PAD", "RTA_UID", "RTA_TTL_PROPAGATE", "RTA_IP_PROTO", "RTA_SPORT", "RTA_DPORT",
	"RTA_NH_ID", "RTA_FLOWLABEL",
).with(attributes{
	unix.RTA_DST: shown(address), unix.RTA_SRC: shown(address), unix.RTA_GATEWAY: shown(address),
	unix.RTA_PREFSRC: shown(address), unix.RTA_CACHEINFO: shown(hex), unix.RTA_MULTIPATH: shown(hex),
	unix.RTA_METRICS: nested(metricAttributes),
})

// metricAttributes are RTAX_* of linux/rtnetlink.h.
var metricAttributes = named(number, strings.Fields("RTAX_LOCK RTAX_MTU RTAX_WINDOW RTAX_RTT RTAX_RTTVAR "+
	"RTAX_SSTHRESH RTAX_CWND RTAX_ADVMSS RTAX_REORDERING RTAX_HOPLIMIT RTAX_INITCWND RTAX_FEATURES RTAX_RTO_MIN "+
	"RTAX_INITRWND RTAX_QUICKACK RTAX_CC_ALGO RTAX_FASTOPEN_NO_COOKIE")...)

// neighbourAttributes are NDA_* of linux/neighbour.h.
var neighbourAttributes = named(number, "NDA_DST", "NDA_LLADDR", "NDA_CACHEINFO", "NDA_PROBES", "NDA_VLAN",
	"NDA_PORT", "NDA_VNI", "NDA_IFINDEX", "NDA_MASTER", "NDA_LINK_NETNSID", "NDA_SRC_VNI", "NDA_PROTOCOL", "NDA_NH_ID",
	"NDA_FDB_EXT_ATTRS", "NDA_FLAGS_EXT",
).with(attributes{
	unix.NDA_DST: shown(address), unix.NDA_LLADDR: shown(address), unix.NDA_CACHEINFO: shown(hex),
})
