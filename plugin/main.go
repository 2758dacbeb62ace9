//go:build !docs

// Command weave is a network and IPAM plugin for Docker, and its own command line.
//
// It runs in the host's network namespace and never leaves it.
package main

import (
	"context"
	"fmt"
	"os"
)

func main() {
	root, err := newCommand(os.Args)
	if err == nil {
		err = root.ExecuteContext(context.Background())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "weave: %s\n", printable(err.Error(), "\n\t"))
		os.Exit(1)
	}
}
