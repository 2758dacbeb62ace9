// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// newForgetCommand returns `weave forget`.
func newForgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget HOST",
		Short: "Remove a host that is gone for good from the cluster",
		Long: "Remove a host, by name or id, from the cluster: its addresses are free for the other hosts at once,\n" +
			"not only after the grace period. Only root can do that, on any other host.\n\n" +
			"The host has to be gone (see weave hosts), and gone for good: one that still runs, and is only cut off\n" +
			"from etcd, goes on with addresses that others get from now on. When it is back, it claims again those\n" +
			"that are still free, and its weave status names the others.",
		Args: cobra.ExactArgs(1),
	}
	cmd.ValidArgsFunction = completeGone
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		host, err := newClient(cmd).Forget(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), printable(host.Name, ""))
		return err
	}
	return cmd
}

// completeGone proposes the names of hosts that are gone.
func completeGone(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	hosts, err := newClient(cmd).Hosts(ctx)
	var names []string
	for _, h := range hosts {
		if !h.Present && !h.Self {
			names = append(names, h.Name)
		}
	}
	return proposals(names, nil), directive(err)
}
