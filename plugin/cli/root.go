// SPDX-License-Identifier: Apache-2.0

// Package cli is weave's command line: it shows through weave's API what is there, as `weave` or as `docker weave`. It
// can also have a host of the cluster forgotten, nsproc run, and packets captured.
//
// It runs in the namespaces of its caller and enters no other.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// Build says what the binary was built from.
type Build struct {
	Version string
	Commit  string // empty if it is not known
}

// Run runs the command line args, which begins with the program's name, and returns the exit status of the process. It
// writes an error to stderr. More are commands besides those of this package.
func Run(ctx context.Context, args []string, stderr io.Writer, build Build, more ...*cobra.Command) int {
	root, err := NewCommand(args, build, more...)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err != nil {
		// The status says it too, if nobody reads stderr.
		_, _ = fmt.Fprintf(stderr, "weave: %s\n", printable(err.Error(), "\n\t"))
		if s, ok := errors.AsType[interface {
			error
			Status() int
		}](err); ok {
			return s.Status()
		}
		return 1
	}
	return 0
}

// newRootCommand returns `weave`.
func newRootCommand(build Build, more []*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:               "weave",
		Short:             "A network and IPAM plugin for Docker",
		SilenceUsage:      true, // an error about a container is no reason to print the flags
		SilenceErrors:     true, // Run prints them
		DisableAutoGenTag: true,
	}
	root.PersistentFlags().String("socket", cmp.Or(os.Getenv("WEAVE_SOCKET"), api.DefaultSocket),
		"`path` of the socket where weave answers these commands [$WEAVE_SOCKET]")
	root.AddCommand(newPsCommand(), newNetworksCommand(), newIPAMCommand(), newHostsCommand(), newForgetCommand(),
		newNetworkCommand())
	root.AddCommand(newEventsCommand(), newStatusCommand(), newInspectCommand(), newNsprocCommand(),
		newCaptureCommand(), newReportCommand(), newCheckCommand())
	root.AddCommand(newVersionCommand(build))
	root.AddCommand(more...)
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

func newVersionCommand(build Build) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			commit := ""
			if build.Commit != "" {
				commit = " (commit " + build.Commit + ")"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "weave %s%s %s %s/%s\n",
				build.Version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
