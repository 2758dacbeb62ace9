// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// run runs a shell command as an administrator would. $B is the bridge, $H the host end.
func (r *rig) run(id EndpointID, command string) string {
	r.t.Helper()
	cmd := exec.Command("sh", "-ec", command)
	cmd.Env = append(os.Environ(), "B="+bridgeName(netID), "H="+hostEndName(id))
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// kernelHas is what the kernel has of the bridge and the host end, as other programs than weave see it.
func (r *rig) kernelHas(id EndpointID) map[string]string {
	r.t.Helper()
	var links []struct {
		Name      string   `json:"ifname"`
		MTU       int      `json:"mtu"`
		Alias     string   `json:"ifalias"`
		Master    string   `json:"master"`
		Flags     []string `json:"flags"`
		GenMode   string   `json:"inet6_addr_gen_mode"`
		Addresses []any    `json:"addr_info"`
		LinkInfo  struct {
			Port map[string]any `json:"info_slave_data"`
		} `json:"linkinfo"`
	}
	if err := json.Unmarshal([]byte(r.run(id, "ip -d -j addr")), &links); err != nil {
		r.t.Fatal(err)
	}
	has := map[string]string{}
	for _, l := range links {
		if !isOwnName(l.Name) {
			continue
		}
		port := map[string]any{}
		for _, name := range []string{
			"state", "isolated", "learning", "flood", "mcast_flood", "bcast_flood", "group_fwd_mask",
		} {
			port[name] = l.LinkInfo.Port[name]
		}
		has[l.Name] = fmt.Sprint(l.MTU, l.Alias, l.Master, slices.Contains(l.Flags, "UP"), l.GenMode, l.Addresses, port)
	}
	for _, name := range []string{
		"ipv4/conf/%s/rp_filter", "ipv4/conf/%s/arp_ignore", "ipv6/conf/%s/accept_ra", "ipv6/conf/%s/disable_ipv6",
	} {
		value, err := os.ReadFile("/proc/sys/net/" + fmt.Sprintf(name, bridgeName(netID)))
		has[name] = fmt.Sprint(string(value), err != nil)
	}
	return has
}

// TestPropertiesAreKept changes each property of each link of weave's from outside. Weave puts it right and tells so;
// of what the kernel sends no event, it tells at once and puts it right at the next look at everything.
func TestPropertiesAreKept(t *testing.T) {
	for _, tt := range []struct {
		change string
		want   string // what is told to have been wrong
		silent bool   // the kernel sends no event
	}{
		{change: "ip link set $B down", want: "bridge $B: down"},
		{ // by one command, since weave is faster than several
			change: `printf "link set $B down\nlink set $B name br5\nlink set br5 up\n" | ip -batch -`,
			want:   "bridge $B: renamed to br5",
		},
		{change: "ip link set $B alias mine", want: `bridge $B: alias "mine"`},
		{change: "ip link set $B alias ''", want: "bridge $B: no alias"},
		{change: "ip link set $B mtu 1400", want: "bridge $B: mtu 1400, not 1500"},
		{change: "ip link set $B mtu 9000", want: "bridge $B: mtu 9000, not 1500"},
		{change: "ip addr add 192.0.2.1/24 dev $B", want: "bridge $B: address 192.0.2.1/24"},
		{change: "ip link set $B addrgenmode eui64", want: "bridge $B: link-local addresses are on"},
		{change: "sysctl -qw net.ipv4.conf.$B.rp_filter=2", want: "bridge $B: rp_filter 2, not 1"},
		{change: "sysctl -qw net.ipv6.conf.$B.disable_ipv6=0", want: "bridge $B: disable_ipv6 0, not 1"},
		{change: "sysctl -qw net.ipv6.conf.all.disable_ipv6=0", want: "bridge $B: disable_ipv6 0, not 1"},
		{change: "sysctl -qw net.ipv4.conf.$B.arp_ignore=0", want: "bridge $B: arp_ignore 0, not 8", silent: true},
		{change: "sysctl -qw net.ipv6.conf.$B.accept_ra=2", want: "bridge $B: accept_ra 2, not 0", silent: true},
		{change: "ip link del $B", want: "bridge $B: missing"},
		{change: "ip link set $H down", want: "host end $H: down"},
		{change: "ip link set $H nomaster", want: "host end $H: port of no bridge"},
		{
			change: "ip link add br5 type bridge; ip link set $H master br5",
			want:   "host end $H: port of another bridge",
		},
		{
			change: `printf "link set $H down\nlink set $H name eth7\nlink set eth7 up\n" | ip -batch -`,
			want:   "host end $H: renamed to eth7",
		},
		{change: "ip link set $H alias mine", want: `host end $H: alias "mine"`},
		{change: "ip link set $H mtu 1400", want: "host end $H: mtu 1400, not 1500"},
		{change: "ip addr add 192.0.2.1/24 dev $H", want: "host end $H: address 192.0.2.1/24"},
		{change: "ip addr add 2001:db8::1/64 dev $H", want: "host end $H: address 2001:db8::1/64"},
		{change: "ip link set $H addrgenmode eui64", want: "host end $H: link-local addresses are on"},
		{change: "bridge link set dev $H isolated on", want: "host end $H: isolated 1, not 0"},
		{change: "bridge link set dev $H learning off", want: "host end $H: learning 0, not 1"},
		{change: "bridge link set dev $H flood off", want: "host end $H: flood 0, not 1"},
		{change: "bridge link set dev $H mcast_flood off", want: "host end $H: mcast_flood 0, not 1"},
		{change: "bridge link set dev $H bcast_flood off", want: "host end $H: bcast_flood 0, not 1"},
		{change: "ip link set $H type bridge_slave group_fwd_mask 0", want: "host end $H: group_fwd_mask 0, not 65533"},
		{change: "bridge link set dev $H state 0", want: "host end $H: port does not forward"},
	} {
		t.Run(tt.change, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			r := newRig(t)
			r.createNetwork(newNetwork(netID))
			id, _ := r.createEndpoint(netID, 1)
			r.attach(id, nstest.New(t), "eth0")
			up := func() bool { return strings.Contains(r.kernelHas(id)[hostEndName(id)], "state:forwarding") }
			eventually(t, "the host end forwards", up)
			before := r.kernelHas(id)
			changes, _ := r.Subscribe(100)
			defer changes.Close()
			want := strings.NewReplacer("$B", bridgeName(netID), "$H", hostEndName(id)).Replace(tt.want)

			start := time.Now()
			if tt.silent {
				r.pause() // late news of the new links could make weave look just now
			}
			r.run(id, tt.change)
			if tt.silent {
				checkProblems(t, r, want+": it is being put right")
				(&keeper{r.Driver, map[NetworkID]time.Time{}}).lookAtAll(t.Context(), nil)
			}
			eventually(t, "it is put right", func() bool { return cmp.Equal(before, r.kernelHas(id)) })
			t.Logf("right again after %v", time.Since(start))
			for _, kind := range []ChangeKind{Drifted, Repaired} {
				eventually(t, "the feed tells that it has "+string(kind), func() bool {
					c, ok, err := changes.take()
					return err == nil && ok && c.Kind == kind && strings.HasPrefix(c.What, want)
				})
			}
			if !slices.ContainsFunc(r.Repairs(), func(x Repair) bool {
				return strings.HasPrefix(x.Subject+": "+x.What, want) && x.Network == netID
			}) {
				t.Errorf("repairs %+v, want one of %q", r.Repairs(), want)
			}
			checkProblems(t, r)
		})
	}
}

// TestBridgeIsMadeAgain: all host ends of a bridge that somebody has deleted are ports of the new one, at once.
func TestBridgeIsMadeAgain(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	const count = 2 * singleLooks
	for n := range count {
		r.createEndpoint(netID, n)
	}
	r.run("", "ip link del $B")
	eventually(t, "all host ends are ports again", func() bool {
		return strings.Count(r.run("", "ip -o link show master $B 2>/dev/null || true"), "wve-") == count
	})
	checkConsistent(t, r.Driver)
	eventually(t, "nothing is wrong", func() bool { return len(r.Problems(t.Context())) == 0 })
}

// TestForeignBridgeComesBack: host ends become ports again of a bridge that its owner has made again, and nothing else
// is changed of it.
func TestForeignBridgeComesBack(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.run("", "ip link add br-lan type bridge; ip link set br-lan up")
	r.createNetwork(onBridge(netID, "br-lan"))
	id, _ := r.createEndpoint(netID, 1)
	r.run(id, "ip link del br-lan")
	checkProblems(t, r, "network "+string(netID)+": not found: bridge br-lan")
	r.run(id, "ip link add br-lan mtu 1400 type bridge; ip addr add 192.0.2.1/24 dev br-lan; ip link set br-lan up")
	eventually(t, "the host end is a port again", func() bool {
		return mustLink(t, hostEndName(id)).Attrs().MasterIndex == mustLink(t, "br-lan").Attrs().Index
	})
	eventually(t, "nothing is wrong", func() bool { return len(r.Problems(t.Context())) == 0 })
	if a := mustLink(t, "br-lan").Attrs(); a.Alias != "" || len(addressesOf(t, mustLink(t, "br-lan"))) == 0 {
		t.Errorf("it was changed: %+v", a)
	}
}

// TestLostHostEndIsTold: what can't be put right is told for as long as it is so.
func TestLostHostEndIsTold(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	r.attach(id, nstest.New(t), "eth0")
	changes, _ := r.Subscribe(100)
	defer changes.Close()
	r.run(id, "ip link del $H")
	want := "endpoint " + string(id) + ": host end " + hostEndName(id) + " is gone"
	eventually(t, "the feed tells", func() bool {
		c, ok, err := changes.take()
		return err == nil && ok && c.Kind == Drifted && strings.HasPrefix(c.What, want)
	})
	for range 2 {
		checkProblems(t, r, want)
		(&keeper{r.Driver, map[NetworkID]time.Time{}}).lookAtAll(t.Context(), nil)
	}
	if left := drain(t, changes); len(left) != 0 {
		t.Errorf("told again: %v", left)
	}
	r.delete(id)
	checkProblems(t, r)
}

// TestAdministratorsSettingsStay: what somebody may set who administers the host is neither told nor changed.
func TestAdministratorsSettingsStay(t *testing.T) {
	for change, check := range map[string]string{
		"ip link add port5 mtu 1400 type veth; ip link set port5 master $B": "ip link show $B | grep 'mtu 1400'",
		"ip link set $B type bridge stp_state 1":                            "ip -d link show $B | grep 'stp_state 1'",
		"ip link set $B type bridge mcast_snooping 0":                       "ip -d link show $B | grep 'snooping 0'",
		"ip link set $B txqueuelen 500; ip link set $H txqueuelen 500":      "ip link show $H | grep 'qlen 500'",
		"ip link property add dev $B altname app":                           "ip link show $B | grep 'altname app'",
	} {
		t.Run(change, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			r := newRig(t)
			r.createNetwork(underHostRules(netID))
			id, _ := r.createEndpoint(netID, 1)
			r.run(id, change)
			r.createEndpoint(netID, 2)
			report, err := r.Repair(t.Context(), netID)
			if err != nil || len(report.Repaired)+len(report.Problems) != 0 || len(r.Repairs()) != 0 {
				t.Errorf("report %+v, %v, repairs %+v, want nothing to do", report, err, r.Repairs())
			}
			r.run(id, check)
			checkProblems(t, r)
		})
	}
}

// TestContest: against a program that changes a link again and again weave does not fight on without end, and names it
// where the kernel tells who it is.
func TestContest(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	changes, _ := r.Subscribe(100)
	defer changes.Close()

	// A process that lives on, as a network manager does: its address and the process's number are told together.
	ip := exec.Command("ip", "-batch", "-")
	commands, err := ip.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ip.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		commands.Close()
		_ = ip.Wait() // its status says nothing: an address may be there already
	}()
	told := func() (string, bool) {
		for _, x := range r.Problems(t.Context()) {
			if strings.Contains(x, "again and again") {
				return x, true
			}
		}
		return "", false
	}
	for {
		if _, ok := told(); ok {
			break
		}
		_, _ = fmt.Fprintf(commands, "addr add 192.0.2.1/24 dev %s\n", bridgeName(netID))
		for c := (Change{}); c.Kind != Repaired; {
			if c, err = changes.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := fmt.Sprintf(`another program, perhaps "ip" (process %d), changes it again and again`, ip.Process.Pid)
	subject := "bridge " + bridgeName(netID) + ": addresses: "
	if got, _ := told(); !strings.HasPrefix(got, subject) || !strings.Contains(got, want) {
		t.Errorf("problem %q, want one that says: %s", got, want)
	}
	if got := r.Repairs(); len(got) != patience+1 || got[patience].By == "" {
		t.Errorf("repairs %+v, want %d, with the program", got, patience+1)
	}
	// Other properties are put right at once, this one after a while.
	_, _ = fmt.Fprintf(commands, "addr add 192.0.2.1/24 dev %s\nlink set %[1]s down\n", bridgeName(netID))
	eventually(t, "both are right again", func() bool {
		link := mustLink(t, bridgeName(netID))
		right := link.Attrs().RawFlags&unix.IFF_UP != 0 && len(addressesOf(t, link)) == 0
		return right && len(r.Repairs()) == patience+3
	})
}
