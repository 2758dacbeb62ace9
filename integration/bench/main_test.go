// Package bench measures what weave promises, against what its user has without it: nsproc against nsenter, a weave
// network against Docker's own bridge and against one made by hand. Each file asks one question. Whatever is compared
// is measured in turns in one run, because only ratios carry over from one machine to another. Nothing here passes or
// fails by speed: the table at the end says which targets are met.
//
// `make bench` runs all of it, `make bench BENCH=Listing` one question. The benchmarks need root, since they start test
// hosts; they run in the machine's own namespaces, and enter others through lab and by programs that they measure.
package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// results is where the benchmarks put what they found.
var results report

func TestMain(m *testing.M) {
	output := flag.String("report", "", "`file` to write the results to, as JSON")
	flag.Parse()
	code := m.Run()
	if err := results.publish(os.Stdout, *output); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
