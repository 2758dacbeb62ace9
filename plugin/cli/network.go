// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newNetworkCommand returns `weave network`.
func newNetworkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "network", Short: "Make networks between hosts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, // so that other arguments are refused
	}
	cmd.AddCommand(newNetworkCreateCommand())
	return cmd
}

// newNetworkCreateCommand returns `weave network create`.
func newNetworkCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME [OPTION...]",
		Short: "Print the command that makes a network of the cluster on each host",
		Long: "Print the command that makes a network of the cluster, to be run on each host that is to have it.\n" +
			"Options are those of docker network create.\n\n" +
			"weave itself can't make it: only Docker makes networks, each one those of its own host, and weave\n" +
			"has no right to command Docker, least of all that of other hosts.\n",
		Example: "  weave network create app --subnet 10.32.0.0/22 >app.sh\n" +
			"  sh app.sh; ssh host2 sh <app.sh",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().SetInterspersed(false) // what follows NAME is Docker's
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, ctx := newClient(cmd), cmd.Context()
		status, err := client.Status(ctx)
		if err != nil {
			return err
		}
		if status.Cluster == nil {
			return errors.New("this host is in no cluster: start weave with --cluster, or make a network of this " +
				"host alone: docker network create -d weave " + quote(args[0]))
		}
		hosts, err := client.Hosts(ctx)
		if err != nil {
			return err
		}
		command := createCommand(status.Docker.Drivers, args[0], args[1:])
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), command); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "weave: run this on each host that is to have the network (%s)\n",
			strings.Join(presentHosts(hosts), ", "))
		return err
	}
	return cmd
}

// createCommand is what one types to have Docker, which knows weave by one of the driver names, make a network of the
// cluster.
func createCommand(drivers []string, name string, options []string) string {
	driver := "weave"
	if len(drivers) > 0 && !slices.Contains(drivers, driver) {
		driver = drivers[0]
	}
	words := slices.Concat([]string{
		"docker", "network", "create", "-d", driver, "--ipam-driver", driver,
		"--ipam-opt", "works.weave.network=" + name,
	}, options, []string{name})
	for i := range words {
		words[i] = quote(words[i])
	}
	return strings.Join(words, " ")
}

// plain matches what a shell takes as it is.
var plain = regexp.MustCompile(`^[a-zA-Z0-9_@%+=:,./-]+$`)

// quote returns a word as one types it in a shell.
func quote(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// presentHosts returns the names of the hosts that are there.
func presentHosts(hosts []api.Host) []string {
	var names []string
	for _, h := range hosts {
		if h.Present || h.Self {
			names = append(names, printable(h.Name, ""))
		}
	}
	return names
}
