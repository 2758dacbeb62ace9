// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// What two hosts with an endpoint each have, as etcdctl, ip and bridge tell it.
const (
	idA, idB   = "aaaa", "bbbb"
	netA, netB = "1111", "2222"
	macA, macB = "02:00:00:00:00:0a", "02:00:00:00:00:0b"

	linksA = `[{"ifname":"wv-1","ifalias":"weave:aaaa:network:1111","flags":["UP"],"linkinfo":{"info_kind":"bridge",
		"info_data":{"ageing_time":30000,"learning":"none of ours"}}},
		{"ifname":"wvx-1","ifalias":"weave:aaaa:network:1111","flags":["UP"],"mtu":1450,"master":"wv-1","linkinfo":{
		"info_kind":"vxlan","info_data":{"id":7,"local":"192.0.2.11","learning":false}}},
		{"ifname":"wve-e1","ifalias":"weave:aaaa:endpoint:e1","master":"wv-1","linkinfo":{"info_kind":"veth"}}]`
	fdbA = `[{"mac":"02:00:00:00:00:0b","ifname":"wvx-1","flags":["extern_learn"],"master":"wv-1","state":""},
		{"mac":"02:00:00:00:00:0c","ifname":"wvx-1","flags":[],"master":"wv-1","state":"permanent"},
		{"mac":"02:00:00:00:00:0b","ifname":"wvx-1","dst":"192.0.2.12","flags":["self"],"state":"permanent"},
		{"mac":"00:00:00:00:00:00","ifname":"wvx-1","dst":"192.0.2.12","flags":["self"],"state":"permanent"},
		{"mac":"02:00:00:00:00:0a","ifname":"wve-e1","flags":[],"master":"wv-1","state":""}]`
	neighboursA = `[{"dst":"10.0.0.3","dev":"wv-1","lladdr":"02:00:00:00:00:0b","state":["PERMANENT"]},
		{"dst":"10.0.0.9","dev":"wv-1","state":["FAILED"]}]`
)

// ofB makes what the second host lists of what the first one does.
var ofB = strings.NewReplacer("aaaa:", "bbbb:", "1111", "2222", "endpoint:e1", "endpoint:e2",
	"192.0.2.11", "192.0.2.12", "192.0.2.12", "192.0.2.11", macA, macB, macB, macA, "10.0.0.3", "10.0.0.2")

func rightRecords() map[string]string {
	return map[string]string{
		"w/hosts/aaaa": `{"name":"host1","vtep":"192.0.2.11"}`, "w/hosts/bbbb": `{"name":"host2","vtep":"192.0.2.12"}`,
		"w/holders/aaaa": `{"name":"host1"}`, "w/holders/bbbb": `{"name":"host2"}`,
		"w/networks/app": `{"vni":7,"mtu":1450,"subnets":[{"subnet":"10.0.0.0/24"}]}`, "w/vnis/7": "app",
		"w/members/app/aaaa": "", "w/members/app/bbbb": "", "w/wanted/app": "bbbb",
		"w/blocks/app/0a000000/0a000002": idA, "w/blocks/app/0a000000/0a000003": idB,
		"w/endpoints/app/aaaa/e1": `{"mac":"02:00:00:00:00:0a","addresses":["10.0.0.2/24"],"container":"c1"}`,
		"w/endpoints/app/bbbb/e2": `{"mac":"02:00:00:00:00:0b","addresses":["10.0.0.3/24"],"container":"c2"}`,
	}
}

func rightHosts(t *testing.T) []hostView {
	t.Helper()
	kernel := func(swap func(string) string) (v kernelView) {
		for _, list := range []struct {
			into any
			text string
		}{{&v.Links, linksA}, {&v.FDB, fdbA}, {&v.Neighbours, neighboursA}} {
			if err := json.Unmarshal([]byte(swap(list.text)), list.into); err != nil {
				t.Fatal(err)
			}
		}
		return v
	}
	return []hostView{{
		name: "host1", running: true, kernel: kernel(strings.Clone),
		networks: []engineNetwork{{netA, "app", []attached{{"e1", "c1", macA, []string{"10.0.0.2/24"}}}}},
	}, {
		name: "host2", running: true, kernel: kernel(ofB.Replace),
		networks: []engineNetwork{{netB, "app", []attached{{"e2", "c2", macB, []string{"10.0.0.3/24"}}}}},
	}}
}

// TestOracle: the oracle finds nothing wrong where all is right, and each thing that may be wrong.
func TestOracle(t *testing.T) {
	set := func(key, value string) func(map[string]string, []hostView) {
		return func(records map[string]string, _ []hostView) { records[key] = value }
	}
	unset := func(keys ...string) func(map[string]string, []hostView) {
		return func(records map[string]string, _ []hostView) {
			for _, key := range keys {
				delete(records, key)
			}
		}
	}
	inKernel := func(change func(*kernelView)) func(map[string]string, []hostView) {
		return func(_ map[string]string, hosts []hostView) { change(&hosts[0].kernel) }
	}
	row := func(change func(r *bridgeRow)) func(map[string]string, []hostView) {
		return inKernel(func(k *kernelView) { change(&k.FDB[2]) })
	}
	for _, c := range []struct {
		what  string
		wrong func(map[string]string, []hostView)
		want  string // part of a finding; empty: there is none
	}{
		{"nothing", func(map[string]string, []hostView) {}, ""},
		{"a row that is missing", inKernel(func(k *kernelView) { k.FDB = k.FDB[1:] }),
			"host1: network app: the tables"},
		{"a row too many", inKernel(func(k *kernelView) { k.FDB = append(k.FDB, k.FDB[2]) }), "the tables"},
		{"a row that leads elsewhere", row(func(r *bridgeRow) { r.Dst = "192.0.2.13" }), "the tables"},
		{"a row with another MAC", row(func(r *bridgeRow) { r.MAC = macA }), "the tables"},
		{"a neighbour that is missing", inKernel(func(k *kernelView) { k.Neighbours = nil }), "the tables"},
		{"no bridge", inKernel(func(k *kernelView) { k.Links = k.Links[1:] }), "has no bridge"},
		{"no VXLAN device", inKernel(func(k *kernelView) { k.Links = slices.Delete(k.Links, 1, 2) }),
			"its VXLAN device"},
		{"another VNI", inKernel(func(k *kernelView) { k.Links[1].Info.Data.ID = 8 }), "its VXLAN device"},
		{"the device is down", inKernel(func(k *kernelView) { k.Links[1].Flags = nil }), "its VXLAN device"},
		{"no host end", inKernel(func(k *kernelView) { k.Links = k.Links[:2] }), "the host end of endpoint e1"},
		{"a host end too many", func(_ map[string]string, h []hostView) { h[0].networks[0].Endpoints = nil },
			"a host end of endpoint e1"},
		{"a device too many", inKernel(func(k *kernelView) { k.Links = append(k.Links, ipLink{Name: "wvx-2"}) }),
			"VXLAN device wvx-2 is of no network"},
		{"a container end is left", inKernel(func(k *kernelView) { k.Links = append(k.Links, ipLink{Name: "wvc-2"}) }),
			"wvc-2 is in no container"},
		{"the engine knows it otherwise", func(_ map[string]string, h []hostView) {
			h[1].networks[0].Endpoints[0].Container = "c3"
		}, "host2: its endpoints of app in etcd"},
		{"the engine has the network no more", func(_ map[string]string, h []hostView) { h[1].networks = nil },
			"host2: its networks in etcd"},
		{"weave has ended", func(_ map[string]string, h []hostView) { h[1].running = false },
			"does not run, but is in"},
		{"a host that is off", unset("w/hosts/bbbb"), "host2: weave runs, but is not in etcd"},
		{"one address twice", set("w/endpoints/app/bbbb/e3",
			`{"mac":"02:00:00:00:00:0f","addresses":["10.0.0.2/24"]}`), "network app have 10.0.0.2/24"},
		{"one MAC twice", set("w/endpoints/app/bbbb/e3", `{"mac":"02:00:00:00:00:0a"}`), "network app have " + macA},
		{"an address that nobody holds", unset("w/blocks/app/0a000000/0a000002"), `which host "" holds`},
		{"an address that another one holds", set("w/blocks/app/0a000000/0a000002", idB), `which host "bbbb" holds`},
		{"a block and one of its addresses", set("w/blocks/app/0a000000", idA), "of which host aaaa holds the block"},
		{"a holder that is not on the network", set("w/blocks/app/0a000004", "cccc"), "on which it is not"},
		{"a member that nobody knows", set("w/members/app/cccc", ""), "host cccc is on network app, but is not known"},
		{"what a network has left", set("w/blocks/old/0a000004", idA), "blocks of network old"},
		{"a network without members", set("w/networks/old", `{"vni":8}`), "network old has no members"},
		{"a VNI that nobody has", set("w/vnis/8", "old"), "how many VNIs are taken"},
		{"a key that has no meaning", set("w/things/1", ""), "has the key w/things/1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			records, hosts := rightRecords(), rightHosts(t)
			c.wrong(records, hosts)
			view, err := viewOf(records, "w/")
			if err != nil {
				t.Fatal(err)
			}
			found := strings.Join(snapshot{view, hosts}.wrong(), "\n")
			if (c.want == "") != (found == "") || !strings.Contains(found, c.want) {
				t.Errorf("findings %q, want %q", found, c.want)
			}
		})
	}
}
