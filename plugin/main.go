// SPDX-License-Identifier: Apache-2.0

//go:build !docs

// Command weave is a network and IPAM plugin for Docker, and its own command line.
//
// It runs in the host's network namespace and never leaves it.
package main

import (
	"context"
	"os"

	"github.com/weaveplugin/weave/plugin/cli"
	"github.com/weaveplugin/weave/plugin/daemon"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args, os.Stderr, build(), daemon.NewCommand(newProgram)))
}
