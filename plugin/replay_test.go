// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/plugin/remote/wiretest"
)

// TestRecordedCallsInEarnest replays what Docker sent, with the real driver, IPAM and state: all calls succeed, make
// their links, and in the end no link is left.
func TestRecordedCallsInEarnest(t *testing.T) {
	for _, path := range wiretest.Files(t, "remote/testdata/wire") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			replayInEarnest(t, path)
		})
	}
}

func replayInEarnest(t *testing.T, path string) {
	d := startDaemon(t, newConfig(t))
	socket := d.cfg.PluginSockets[0]
	answered := answersNow{}
	most := 0
	for i, c := range wiretest.Read(t, path) {
		request := answered.translate(c.Body())
		request = wiretest.WithoutUnknownOptions(t, c.Call, request, func(name, request string) (int, string) {
			status, got, err := call(socket, name, request)
			if err != nil {
				t.Fatal(err)
			}
			return status, got
		})
		status, got, err := call(socket, c.Call, request)
		if err != nil {
			t.Fatal(err)
		}
		if status != http.StatusOK {
			t.Fatalf("line %d (%s): %s %s: status %d: %s", i+1, c.Step, c.Call, request, status, got)
		}
		if err := wiretest.CheckReply(c.Call, request, got); err != nil {
			t.Errorf("line %d (%s): %s %s: %v", i+1, c.Step, c.Call, request, err)
		}
		answered.learn(t, c, got)
		if c.Call == "NetworkDriver.Join" {
			most = max(most, checkJoined(t, request, got))
		}
	}
	if most == 0 {
		t.Error("no endpoint was joined")
	}
	d.stop()
	if err := d.ended(t); err != nil {
		t.Error(err)
	}
	if left := links(t); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// checkJoined compares the links with a Join's request and reply, and returns how many links there are.
func checkJoined(t *testing.T, request, reply string) int {
	t.Helper()
	var req struct{ NetworkID, EndpointID string }
	var resp struct{ InterfaceName struct{ SrcName string } }
	if err := json.Unmarshal([]byte(request), &req); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(reply), &resp); err != nil {
		t.Fatal(err)
	}
	inside, err := netlink.LinkByName(resp.InterfaceName.SrcName)
	if err != nil {
		t.Fatalf("container end: %v", err)
	}
	host, err := netlink.LinkByName("wve-" + req.EndpointID[:11])
	if err != nil {
		t.Fatalf("host end: %v", err)
	}
	bridge, err := netlink.LinkByIndex(host.Attrs().MasterIndex)
	if err != nil {
		t.Fatalf("bridge: %v", err)
	}
	if !strings.Contains(bridge.Attrs().Alias, req.NetworkID) || inside.Attrs().ParentIndex != host.Attrs().Index {
		t.Errorf("container end %s of %d, host end %d on %s, %q",
			inside.Attrs().Name, inside.Attrs().ParentIndex, host.Attrs().Index, bridge.Attrs().Name,
			bridge.Attrs().Alias)
	}
	return len(links(t))
}

// links returns the names of weave's links in this namespace.
func links(t *testing.T) []string {
	t.Helper()
	var all []netlink.Link
	eventually(t, "an uninterrupted list of links", func() bool {
		var err error
		if all, err = netlink.LinkList(); err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			t.Fatal(err)
		}
		return err == nil
	})
	var names []string
	for _, l := range all {
		if strings.HasPrefix(l.Attrs().Name, "wv") {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// answersNow maps what the stub's IPAM answered when a recording was made to what weave's IPAM answers now.
type answersNow map[string]string

func (a answersNow) translate(request string) string {
	for was, is := range a {
		request = strings.ReplaceAll(request, `"`+was+`"`, `"`+is+`"`)
	}
	return request
}

func (a answersNow) learn(t *testing.T, c wiretest.Call, reply string) {
	t.Helper()
	var was, is struct{ PoolID, Pool, Address string }
	if err := json.Unmarshal(c.Response, &was); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(reply), &is); err != nil {
		t.Fatal(err)
	}
	if was.PoolID != "" {
		a[was.PoolID], a[was.Pool] = is.PoolID, is.Pool
	}
	if was.Address != "" {
		old, now := netip.MustParsePrefix(was.Address), netip.MustParsePrefix(is.Address)
		a[was.Address], a[old.Addr().String()] = is.Address, now.Addr().String()
	}
}

// mustLink returns the attributes of the link of that name.
func mustLink(t *testing.T, name string) *netlink.LinkAttrs {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs()
}
