// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/internal/mac"
)

// The size of the synthetic cluster. Each endpoint of a network is on another host.
const (
	syntheticHosts     = 1000
	syntheticNetworks  = 1000
	syntheticEndpoints = 100 // of each network
)

// synthetic is a cluster of which there is only what etcd has, in the layout of docs/cluster.md. Nothing is under a
// lease, so that its hosts stay without anybody to keep them.
type synthetic struct {
	etcd   *lab.Etcd
	client *clientv3.Client
	http   *http.Client
	times  []int // by endpoint: how often it was made again
}

func newSynthetic(b *testing.B, underlay *lab.Underlay) *synthetic {
	b.Helper()
	s := &synthetic{etcd: underlay.StartEtcd(b), times: make([]int, syntheticNetworks*syntheticEndpoints)}
	dial := dialIn(underlay.Path())
	s.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) },
	}}
	var err error
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints: []string{s.etcd.URL()}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		s.http.CloseIdleConnections()
		if err := s.client.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func hostID(n int) string    { return fmt.Sprintf("%016x", 1<<32+n%syntheticHosts) }
func networkOf(n int) string { return fmt.Sprintf("net%d", n/syntheticEndpoints) }
func subnet(n int) netip.Prefix { // 1,000 of the 1,024 in 10.32.0.0/12
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(32 + n>>6), byte(n << 2)}), 22)
}

// writeNetworks writes the hosts, and the networks with their members and without endpoints.
func (s *synthetic) writeNetworks(b *testing.B) {
	b.Helper()
	var puts []clientv3.Op
	put := func(key, value string) { puts = append(puts, clientv3.OpPut(cluster.DefaultPrefix+key, value)) }
	for i := range syntheticHosts {
		h := encode(b, cluster.Host{
			Name: fmt.Sprintf("host%d", i), VTEP: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}),
			Since: time.Now().UTC(),
		})
		put("hosts/"+hostID(i), h)
		put("holders/"+hostID(i), h)
	}
	for i := range syntheticNetworks {
		name, net := networkOf(i*syntheticEndpoints), subnet(i)
		put("networks/"+name, encode(b, cluster.Network{
			VNI: uint32(1<<16 + i), MTU: handMadeMTU, Created: time.Now().UTC(),
			Subnets: []cluster.Subnet{{Subnet: net, Gateway: net.Addr().Next()}},
		}))
		put("vnis/"+strconv.Itoa(1<<16+i), name)
	}
	for n := range s.times {
		put("members/"+networkOf(n)+"/"+hostOf(n), "")
		// A /22 is handed out in blocks of 16; where there are more hosts than blocks they hold addresses.
		addr := s.endpoint(n).Addresses[0].Addr()
		block := netip.PrefixFrom(addr, 28).Masked().Addr()
		put("blocks/"+networkOf(n)+"/"+hex.EncodeToString(block.AsSlice())+"/"+hex.EncodeToString(addr.AsSlice()),
			hostOf(n))
	}
	s.commit(b, puts)
}

// hostOf returns the id of the host that an endpoint is on.
func hostOf(n int) string { return hostID(n*7 + n/syntheticEndpoints) }

// endpoint returns an endpoint, which is another one each time that it has been made again.
func (s *synthetic) endpoint(n int) cluster.Endpoint {
	net := subnet(n / syntheticEndpoints)
	a := net.Addr().As4()
	a[3] = byte(2 + n%syntheticEndpoints)
	return cluster.Endpoint{
		ID:            fmt.Sprintf("%032x%032x", s.times[n], n),
		MAC:           mac.Address{2, byte(s.times[n] >> 8), byte(s.times[n]), byte(n >> 16), byte(n >> 8), byte(n)},
		Addresses:     []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(a), net.Bits())},
		ContainerName: fmt.Sprintf("service-%d", n), Names: []string{"service", fmt.Sprintf("%012x", n)},
	}
}

func endpointKey(n int, id string) string {
	return cluster.DefaultPrefix + "endpoints/" + networkOf(n) + "/" + hostOf(n) + "/" + id
}

// writeEndpoints writes all endpoints.
func (s *synthetic) writeEndpoints(b *testing.B) {
	b.Helper()
	var puts []clientv3.Op
	for n := range s.times {
		ep := s.endpoint(n)
		puts = append(puts, clientv3.OpPut(endpointKey(n, ep.ID), encode(b, ep)))
	}
	s.commit(b, puts)
}

// churn removes and makes again so many endpoints a second, of any network, for so long. It returns how many.
func (s *synthetic) churn(b *testing.B, perSecond int, period time.Duration) (changes int) {
	b.Helper()
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for end := time.Now().Add(period); time.Now().Before(end); <-tick.C {
		changes++
		n := rand.IntN(len(s.times))
		old := s.endpoint(n)
		s.times[n]++
		fresh := s.endpoint(n)
		s.commit(b, []clientv3.Op{
			clientv3.OpDelete(endpointKey(n, old.ID)), clientv3.OpPut(endpointKey(n, fresh.ID), encode(b, fresh)),
		})
	}
	return changes
}

// addOne adds an endpoint to the first network, and returns its address.
func (s *synthetic) addOne(b *testing.B) netip.Addr {
	b.Helper()
	one := s.endpoint(0)
	one.ID, one.MAC[0] = "one", 0xa
	one.Addresses[0] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, 1, 1}), 22)
	s.commit(b, []clientv3.Op{clientv3.OpPut(endpointKey(0, one.ID), encode(b, one))})
	return one.Addresses[0].Addr()
}

// commit makes changes, as many at once as etcd takes by default.
func (s *synthetic) commit(b *testing.B, changes []clientv3.Op) {
	b.Helper()
	for some := range slices.Chunk(changes, 128) {
		if _, err := s.client.Txn(b.Context()).Then(some...).Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

func encode(b *testing.B, v any) string {
	b.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	return string(out)
}

// load is what etcd has done since it was started.
type load struct {
	requests float64       // single calls, and messages in the streams of watches and of leases
	sent     float64       // MB, to clients
	watchers float64       // now
	cpu      time.Duration // of its process
}

// load returns what etcd has done until now.
func (s *synthetic) load(b *testing.B) load {
	b.Helper()
	r, err := s.http.Get(s.etcd.URL() + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	out := load{cpu: cpuOf(b, s.etcd.PID())}
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		x, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue // a comment
		}
		switch name, _, _ := strings.Cut(name, "{"); name {
		case "grpc_server_msg_received_total":
			out.requests += x
		case "etcd_network_client_grpc_sent_bytes_total":
			out.sent += x / 1e6
		case "etcd_debugging_mvcc_watcher_total":
			out.watchers += x
		}
	}
	return out
}

func (l load) since(before load) load {
	return load{l.requests - before.requests, l.sent - before.sent, l.watchers - before.watchers, l.cpu - before.cpu}
}
