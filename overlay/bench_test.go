// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// BenchmarkProgram programs 100,000 endpoints' MACs in batches and one by one, and says how many times as long the
// latter takes; and how long it takes to compare all that is there then. It is for -benchtime 1x.
func BenchmarkProgram(b *testing.B) {
	const entries = 100_000
	ns := nstest.New(b)
	var changes []change
	for i := range entries {
		changes = append(changes, change{Entry: Entry{
			Table: Tunnel, MAC: mac.Address{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)},
			Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i%250)}),
		}})
	}
	var inBatches, oneByOne, compared time.Duration
	for range b.N {
		ns.Do(b, func() error {
			if err := nstest.Run("ip link add wv-app type bridge"); err != nil {
				return err
			}
			for _, size := range []int{1, batchSize} {
				d := Device{Name: deviceName, VNI: vni, Port: udpPort, Local: netip.MustParseAddr("192.0.2.1")}
				if err := d.Add(); err != nil {
					return err
				}
				if err := nstest.Run("ip link set wvx-app master wv-app up"); err != nil {
					return err
				}
				took, look, err := program(b.Context(), size, changes)
				if err != nil {
					return err
				}
				if size == 1 {
					oneByOne += took
				} else {
					inBatches, compared = inBatches+took, compared+look
				}
				if err := nstest.Run("ip link del wvx-app"); err != nil {
					return err
				}
			}
			return nstest.Run("ip link del wv-app")
		})
	}
	b.ReportMetric(inBatches.Seconds()/float64(b.N), "s/batches")
	b.ReportMetric(oneByOne.Seconds()/float64(b.N), "s/one-by-one")
	b.ReportMetric(oneByOne.Seconds()/inBatches.Seconds(), "ratio")
	b.ReportMetric(compared.Seconds()/float64(b.N), "s/comparison")
	b.ReportMetric(0, "ns/op")
}

func program(ctx context.Context, size int, changes []change) (took, look time.Duration, err error) {
	c, err := dial()
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	l, err := (&network{device: deviceName, bridge: bridgeName}).find()
	if err != nil {
		return 0, 0, err
	}
	var refused error
	start := time.Now()
	err = c.applyBy(ctx, size, l, changes, func(_ change, err error) { refused = err })
	took = time.Since(start)
	if err == nil {
		err = refused
	}
	if err != nil {
		return 0, 0, err
	}
	want := Entries{}
	for _, ch := range changes {
		want.add(ch.Entry)
	}
	start = time.Now()
	rows, err := allRows(ctx, c, l)
	plan(want, sortOut(rows, want, nil))
	return took, time.Since(start), err
}
