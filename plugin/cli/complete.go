// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// completeTimeout is how long a user who has pressed the tab key waits at most.
const completeTimeout = 2 * time.Second

// completeContainers proposes the names of containers that have an endpoint, except those that are given already.
func completeContainers(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	endpoints, err := newClient(cmd).Endpoints(ctx, api.Query{})
	names := make([]string, len(endpoints))
	for i, e := range endpoints {
		names[i] = e.ContainerName
	}
	return proposals(names, given), directive(err)
}

// completeNetworks proposes the names of networks.
func completeNetworks(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	networks, err := newClient(cmd).Networks(ctx)
	names := make([]string, len(networks))
	for i, n := range networks {
		names[i] = n.Name
	}
	return proposals(names, nil), directive(err)
}

// proposals returns the names, each once, except those that are empty, given, or not fit for a terminal.
func proposals(names, given []string) []cobra.Completion {
	seen := map[string]bool{"": true}
	for _, name := range given {
		seen[name] = true
	}
	var list []cobra.Completion
	for _, name := range names {
		if !seen[name] && printable(name, "") == name {
			list = append(list, name)
		}
		seen[name] = true
	}
	return list
}

// directive returns what the shell does with the proposals. It proposes no files in their place.
func directive(err error) cobra.ShellCompDirective {
	if err != nil {
		return cobra.ShellCompDirectiveError
	}
	return cobra.ShellCompDirectiveNoFileComp
}

// completeFlag makes fn propose the values of a flag of cmd.
func completeFlag(cmd *cobra.Command, flag string, fn cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, fn); err != nil {
		panic(err) // cmd has no such flag
	}
}
