package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// What this binary was built from, set with -ldflags "-X main.version=... -X main.commit=...".
var version, commit string

// buildInfo returns version and commit; what the linker did not set, the Go toolchain may know.
func buildInfo() (string, string) {
	v, c := version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		v = cmp.Or(v, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				c = cmp.Or(c, s.Value)
			}
		}
	}
	return cmp.Or(v, "(devel)"), c
}

// newRootCommand is `weave`.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "weave",
		Short:             "A network and IPAM plugin for Docker",
		SilenceUsage:      true, // an error about a container is no reason to print the flags
		SilenceErrors:     true, // main prints them
		DisableAutoGenTag: true,
	}
	root.PersistentFlags().String("socket", cmp.Or(os.Getenv("WEAVE_SOCKET"), api.DefaultSocket),
		"`path` of the socket where weave answers these commands [$WEAVE_SOCKET]")
	root.AddCommand(newServeCommand(), newPsCommand(), newNetworksCommand(), newStatusCommand(), newVersionCommand())
	for _, cmd := range root.Commands() {
		if cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions // no command takes a file
		}
	}
	return root
}

// newClient returns a client of the weave that cmd's --socket names.
func newClient(cmd *cobra.Command) *api.Client {
	return api.NewClient(cmd.Flag("socket").Value.String())
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, c := buildInfo()
			if c != "" {
				c = " (commit " + c + ")"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "weave %s%s %s %s/%s\n", v, c, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
