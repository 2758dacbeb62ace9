// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/record"
)

// seen returns a Launcher and what the last nsproc that it started did.
func seen(t *testing.T) (*launch.Launcher, *launch.Run) {
	t.Helper()
	run := new(launch.Run)
	l, err := launch.New(launch.Options{
		Path: nstest.Nsproc(t), Timeout: time.Minute, See: func(r launch.Run) { *run = r },
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, run
}

// check fails the test unless the lines match the patterns in their order, with any others between them.
func check(t *testing.T, run *launch.Run, patterns ...string) {
	t.Helper()
	lines := Lines(run.Datagrams)
	rest := lines
	for _, p := range patterns {
		is := regexp.MustCompile(`^ *([0-9.]+ ms )?` + p + `$`)
		for len(rest) > 0 && !is.MatchString(rest[0]) {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			t.Fatalf("no line %q where it is expected in\n%s", p, strings.Join(lines, "\n"))
		}
		rest = rest[1:]
	}
	if !run.Whole {
		t.Error("the record was cut off")
	}
}

func TestList(t *testing.T) {
	l, run := seen(t)
	host, ns := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, host, ns, "host0", "10.32.0.9/22", "fd00::9/64")
	_, err := l.List(t.Context(), ns.Path(), protocol.List{Routes: true, Neighbours: true})
	if err != nil {
		t.Fatal(err)
	}
	check(t, run,
		`> RTM_GETLINK REQUEST\|ROOT\|MATCH family=unspec index=0 flags=none`,
		`IFLA_EXT_MASK: 8`,
		`< RTM_NEWLINK MULTI\S* family=unspec index=1 flags=UP\|LOOPBACK\|RUNNING\|LOWER_UP`,
		`IFLA_IFNAME: "lo"`,
		`< RTM_NEWLINK MULTI\S* .* flags=UP\|BROADCAST\|(RUNNING\|)?MULTICAST\|LOWER_UP`,
		`IFLA_IFNAME: "eth0"`,
		`IFLA_MTU: 1500`,
		`IFLA_ADDRESS: `+hwaddr.String(),
		`IFLA_LINKINFO`,
		`IFLA_INFO_KIND: "veth"`,
		`< NLMSG_DONE MULTI ok`,
		`> RTM_GETADDR REQUEST\|ROOT\|MATCH .*`,
		`< RTM_NEWADDR MULTI\S* family=inet prefix=22 scope=global link=\d+`,
		`IFA_ADDRESS: 10.32.0.9`,
		`< RTM_NEWADDR MULTI\S* family=inet6 prefix=64 .*`,
		`IFA_ADDRESS: fd00::9`,
		`> RTM_GETROUTE .*`,
		`< RTM_NEWROUTE .* family=inet prefix=22 table=main .*`,
		`RTA_DST: 10.32.0.0`,
		`> RTM_GETNEIGH .*`,
	)
	if index == 0 || run.Took <= 0 || run.Sandbox != ns.Path() || run.Request.List == nil {
		t.Errorf("run %+v", run)
	}
}

// A refusal names the message that the kernel has refused, in the error as well, and the kernel's reason in words.
func TestRefusal(t *testing.T) {
	l, run := seen(t)
	host, ns := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, host, ns, "host0")
	ns.Do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(eth0)
	})
	c := protocol.Configure{Peer: index, MAC: hwaddr, Multicast: true}
	_, err := l.Configure(t.Context(), ns.Path(), c)
	const want = "nsproc: configure: route 224.0.0.0/4 out of eth0: RTM_NEWROUTE: refused by the kernel: " +
		"network is down (Device for nexthop is not up)"
	if err == nil || !strings.HasSuffix(err.Error(), want) || !strings.Contains(err.Error(), ns.Path()) {
		t.Errorf("got error %q, want one with the sandbox and %q", err, want)
	}
	check(t, run,
		`> RTM_NEWROUTE REQUEST\|ACK\|REPLACE\|CREATE family=inet prefix=4 table=main protocol=static scope=link `+
			`type=unicast`,
		`RTA_DST: 224.0.0.0`,
		`RTA_OIF: \d+`,
		`RTA_PRIORITY: 10\d\d`,
		`< NLMSG_ERROR ACK_TLVS ENETDOWN \(network is down\): "Device for nexthop is not up"`,
	)
	if run.Err == nil || len(run.Answer) > 0 {
		t.Errorf("answer %q, error %v", run.Answer, run.Err)
	}
}

func TestNames(t *testing.T) {
	l, run := seen(t)
	ns := nstest.New(t)
	sockets, err := l.Names(t.Context(), ns.Path())
	if err != nil {
		t.Skip("the kernel has no tables that belong to a socket: ", err)
	}
	t.Cleanup(func() { _ = sockets.Close() })
	check(t, run,
		`> NFNL_MSG_BATCH_BEGIN REQUEST family=unspec resource=10`,
		`> NFT_MSG_NEWTABLE REQUEST\|EXCL\|CREATE family=inet resource=0`,
		`NFTA_TABLE_NAME: "weave-names"`,
		`> NFT_MSG_NEWCHAIN .*`,
		`NFTA_CHAIN_HOOK`,
		`NFTA_HOOK_PRIORITY: -300`,
		`> NFT_MSG_NEWRULE .*`,
		`NFTA_EXPR_NAME: "notrack"`,
		`> NFNL_MSG_BATCH_END .*`,
		`< NLMSG_ERROR \S+ ok`,
	)
}

// What is not known, or is no netlink at all, is shown as it is.
func TestUnknown(t *testing.T) {
	message := func(typ uint16, payload ...byte) []byte {
		b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(payload)))
		b = binary.NativeEndian.AppendUint16(b, typ)
		return append(append(b, make([]byte, unix.NLMSG_HDRLEN-len(b))...), payload...)
	}
	attr := []byte{8, 0, 0xff, 0, 1, 2, 3, 4}
	for _, tc := range []struct {
		name     string
		protocol int
		in       []byte
		want     string
	}{
		{"nothing", unix.NETLINK_ROUTE, nil, ``},
		{"no message", unix.NETLINK_ROUTE, []byte("hello"), `   0.000 ms < 5 bytes: netlink: message cut short`},
		{"another type", unix.NETLINK_ROUTE, message(unix.RTM_NEWQDISC, attr...),
			"   0.000 ms < RTM 36\n                attribute 255: 01020304"},
		{"a short header", unix.NETLINK_ROUTE, message(unix.RTM_NEWLINK, 1, 2), `   0.000 ms < RTM_NEWLINK 0102`},
		{"another attribute", unix.NETLINK_ROUTE,
			message(unix.RTM_NEWADDR, append([]byte{2, 22, 0, 0, 7, 0, 0, 0}, attr...)...),
			"   0.000 ms < RTM_NEWADDR family=inet prefix=22 scope=global link=7\n" +
				"                attribute 255: 01020304"},
		{"a cut attribute", unix.NETLINK_ROUTE, message(unix.RTM_NEWADDR, 2, 22, 0, 0, 7, 0, 0, 0, 9, 0, 1, 0),
			"   0.000 ms < RTM_NEWADDR family=inet prefix=22 scope=global link=7\n" +
				"                netlink: an attribute says that it has 9 bytes, there are 4: 09000100"},
		{"another of netfilter", unix.NETLINK_NETFILTER, message(0x0aff, 2, 0, 0, 0),
			`   0.000 ms < netfilter 0xaff family=inet resource=0`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := strings.Join(Lines([]record.Datagram{{Protocol: tc.protocol, Messages: tc.in}}), "\n")
			if got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func FuzzLines(f *testing.F) {
	f.Add(true, []byte("hello"))
	f.Fuzz(func(t *testing.T, sent bool, b []byte) {
		for _, protocol := range []int{unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER, unix.NETLINK_SOCK_DIAG} {
			for _, line := range Lines([]record.Datagram{{Sent: sent, Protocol: protocol, Messages: b}}) {
				if strings.Contains(line, "\n") {
					t.Errorf("two lines in one: %q", line)
				}
			}
		}
	})
}
