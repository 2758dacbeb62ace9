package api

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
)

func TestDrift(t *testing.T) {
	type subject struct {
		n driver.Network
		e driver.Endpoint
		o driver.Observation
	}
	tests := []struct {
		name string
		mend func(*subject) // makes the difference
		want []Drift
	}{
		{"none", func(*subject) {}, []Drift{}},
		{"link-local addresses are the container's own affair", func(s *subject) {
			s.o.Inside.Addresses = append(s.o.Inside.Addresses, prefixes("169.254.7.7/16", "fe80::7/64")...)
		}, []Drift{}},
		{"a MAC in capitals is the same", func(s *subject) {
			s.e.MAC, s.o.Inside.MAC = "02:00:00:00:00:AB", mac.MustParse("02:00:00:00:00:ab")
		}, []Drift{}},
		{"host end missing", func(s *subject) { s.o.Host, s.o.Bridge = nil, "" },
			[]Drift{{HostEndMissing, "host end wve-eeee1000000 missing"}}},
		{"host end down", func(s *subject) { s.o.Host.Up = false },
			[]Drift{{HostEndDown, "host end wve-eeee1000000 down"}}},
		{"another bridge", func(s *subject) { s.o.Bridge = "docker0" },
			[]Drift{{WrongBridge, "host end wve-eeee1000000 on bridge docker0, not on wv-aaaa10000000"}}},
		{"no bridge", func(s *subject) { s.o.Bridge = "" },
			[]Drift{{WrongBridge, "host end wve-eeee1000000 on no bridge, not on wv-aaaa10000000"}}},
		{"network not tracked", func(s *subject) { s.n, s.o.Bridge = driver.Network{}, "docker0" }, []Drift{}},
		{"sandbox gone", func(s *subject) { s.o.Err, s.o.Inside = "no such file or directory", nil },
			[]Drift{{SandboxUnreadable, "sandbox /var/run/docker/netns/0123456789ab can't be looked into: no such file or directory"}}},
		{"container end missing", func(s *subject) { s.o.Inside = nil },
			[]Drift{{ContainerEndMissing, "container end missing in the container"}}},
		{"container end down", func(s *subject) { s.o.Inside.Up = false },
			[]Drift{{ContainerEndDown, "eth0 down in the container"}}},
		{"container end down when joined", func(s *subject) { s.e.State, s.o.Inside.Up = driver.Joined, false },
			[]Drift{{ContainerEndDown, "eth0 down in the container"}}},
		{"MAC changed", func(s *subject) { s.o.Inside.MAC = mac.MustParse("02:00:00:00:00:99") },
			[]Drift{{MACChanged, "MAC 02:00:00:00:00:99, not 02:00:00:00:00:01"}}},
		{"MAC gone", func(s *subject) { s.o.Inside.MAC = mac.Address{} },
			[]Drift{{MACChanged, "MAC none, not 02:00:00:00:00:01"}}},
		{"address missing", func(s *subject) { s.o.Inside.Addresses = prefixes("10.32.0.2/22") },
			[]Drift{{AddressMissing, "address fd00:1::2/64 missing"}}},
		{"unexpected address", func(s *subject) {
			s.o.Inside.Addresses = append(s.o.Inside.Addresses, netip.MustParsePrefix("192.0.2.1/32"))
		}, []Drift{{AddressUnexpected, "unexpected address 192.0.2.1/32"}}},
		{"another prefix length", func(s *subject) { s.o.Inside.Addresses = prefixes("10.32.0.2/24", "fd00:1::2/64") },
			[]Drift{{AddressMissing, "address 10.32.0.2/22 missing"}, {AddressUnexpected, "unexpected address 10.32.0.2/24"}}},
		{"a link-local address that is tracked is missed", func(s *subject) { s.e.Addresses = append(s.e.Addresses, netip.MustParsePrefix("169.254.1.1/16")) },
			[]Drift{{AddressMissing, "address 169.254.1.1/16 missing"}}},
		{"created: nothing is expected inside", func(s *subject) { s.e.State, s.e.Sandbox, s.o.Inside, s.o.Err = driver.Created, "", nil, "no sandbox" },
			[]Drift{}},
		{"created: the host end is", func(s *subject) { s.e.State, s.e.Sandbox, s.o.Inside, s.o.Host = driver.Created, "", nil, nil },
			[]Drift{{HostEndMissing, "host end wve-eeee1000000 missing"}}},
		{"outside and inside", func(s *subject) { s.o.Host.Up, s.o.Inside.Up = false, false },
			[]Drift{{HostEndDown, "host end wve-eeee1000000 down"}, {ContainerEndDown, "eth0 down in the container"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s subject
			s.n, s.e, s.o = web()
			tt.mend(&s)
			if diff := cmp.Diff(tt.want, drift(s.n, s.e, s.o)); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
		})
	}
}
