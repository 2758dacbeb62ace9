// SPDX-License-Identifier: Apache-2.0

// Package bench measures what weave promises, and compares it with what a user has without weave: nsproc with nsenter,
// a weave network with Docker's bridge network and with a bridge that was made by hand. Each file answers one
// question. What is compared is measured alternately in one run, because only ratios are valid for other machines as
// well. Nothing fails by speed: the table at the end says which targets are met.
//
// `make bench` runs everything, `make bench BENCH=Listing` one question. The benchmarks need root, because they start
// test hosts. They run in the machine's own namespaces and enter others through package lab and the programs that they
// measure.
package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// results collects the results of all benchmarks.
var results report

func TestMain(m *testing.M) {
	output := flag.String("report", "", "`file` to write the results to, as JSON")
	compareDir := flag.String("compare", "", "`directory` with reports: print them side by side and run nothing")
	flag.Parse()
	if *compareDir != "" {
		if err := compare(os.Stdout, *compareDir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if err := results.publish(os.Stdout, *output); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
