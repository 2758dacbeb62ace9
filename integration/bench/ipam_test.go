// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Does the allocation of an address get slower when a subnet fills up? This runs the benchmark of package ipam, which
// has access to the allocator and fills a /16.
func BenchmarkIPAM(b *testing.B) {
	out, err := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkFill16$", "../../ipam").CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	perOp := map[string]float64{} // by unit
	fields := strings.Fields(string(out))
	for i := 1; i < len(fields); i++ {
		if x, err := strconv.ParseFloat(fields[i-1], 64); err == nil {
			perOp[fields[i]] = x
		}
	}
	first, last := perOp["ns/first"], perOp["ns/last"]
	if first == 0 || last == 0 {
		b.Fatalf("the benchmark of package ipam reports no ns/first and ns/last:\n%s", out)
	}
	x := result{Question: "address out of a /16", Case: "the last 1,000", Unit: "ns", Against: "the first 1,000"}
	results.add(b, compared(x, []float64{last}, []float64{first}))
}
