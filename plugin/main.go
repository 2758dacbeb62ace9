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
	if err := newRootCommand().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "weave: %s\n", printable(err.Error(), "\n"))
		os.Exit(1)
	}
}
