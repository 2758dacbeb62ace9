// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/mac"
)

func TestVeth(t *testing.T) {
	host, inside := New(t), New(t)
	index, hwaddr := Veth(t, host, inside, "host0", "10.32.0.9/22", "192.0.2.1/24")
	host.Do(t, func() error {
		link, err := net.InterfaceByName("host0")
		if err == nil && (link.Index != index || link.Flags&net.FlagUp == 0) {
			t.Errorf("got %+v, want index %d and up", link, index)
		}
		return err
	})
	inside.Do(t, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if mac.FromBytes(link.HardwareAddr) != hwaddr || link.Flags&net.FlagUp == 0 {
			t.Errorf("got %+v, want %s and up", link, hwaddr)
		}
		addresses, err := link.Addrs()
		if err != nil {
			return err
		}
		var got []string
		for _, a := range addresses[:2] { // then a link-local one may follow
			got = append(got, a.String())
		}
		if diff := cmp.Diff([]string{"10.32.0.9/22", "192.0.2.1/24"}, got); diff != "" {
			t.Error("addresses (-want +got)\n", diff)
		}
		return nil
	})
}
