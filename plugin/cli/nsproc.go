// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newNsprocCommand returns `weave nsproc`.
func newNsprocCommand() *cobra.Command {
	var endpoint, requested string
	var trace bool
	cmd := &cobra.Command{
		Use:   "nsproc --endpoint ENDPOINT",
		Short: "Run nsproc in a container's network namespace and show what it does there",
		Long: "Have weave run nsproc, the process that works inside a container's network namespace for it, and\n" +
			"print the request, the answer and, with --trace, each message that it exchanged with the kernel there.\n" +
			"Only root can do that.\n\n" +
			"The request list lists what is there: links, addresses, routes, rules, neighbours and sockets. The\n" +
			"request configure does what weave does each time a container comes up; doing it again does no harm.",
		Example: "  weave nsproc --endpoint web --trace\n" +
			"  weave nsproc --endpoint 4bf9 --request configure --trace",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&endpoint, "endpoint", "", "run it for this `endpoint`, by id, or by the id or the name of "+
		"its container if that is on one network only")
	cmd.Flags().StringVar(&requested, "request", api.NsprocList, "what to do: list or configure")
	cmd.Flags().BoolVar(&trace, "trace", false, "show what nsproc and the kernel say to each other")
	if err := cmd.MarkFlagRequired("endpoint"); err != nil {
		panic(err) // cmd has no such flag
	}
	completeFlag(cmd, "endpoint", completeContainers)
	completeFlag(cmd, "request", cobra.FixedCompletions(
		[]cobra.Completion{api.NsprocList, api.NsprocConfigure}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		run, err := newClient(cmd).RunNsproc(cmd.Context(), endpoint, requested, trace)
		if err != nil {
			return err
		}
		if err := printRun(cmd.OutOrStdout(), run); err != nil {
			return err
		}
		if run.Error != "" {
			return errors.New(run.Error)
		}
		return nil
	}
	return cmd
}

// printRun prints what nsproc did, but for its error.
func printRun(w io.Writer, run api.NsprocRun) error {
	e := run.Endpoint
	text := fmt.Sprintf("endpoint  %s of %s on %s\nsandbox   %s\nrequest   %s\n",
		truncate(e.ID, shortID), orDash(e.ContainerName), orDash(e.NetworkName), e.Sandbox, run.Request)
	for _, line := range run.Trace {
		text += line + "\n"
	}
	if run.Truncated {
		text += "and more, for which there was no room\n"
	}
	if len(run.Answer) > 0 {
		var answer bytes.Buffer
		if err := json.Indent(&answer, run.Answer, "", "  "); err != nil {
			return err
		}
		text += "answer    " + answer.String() + "\n"
	}
	text += fmt.Sprintf("took      %.1f ms\n", 1000*run.Took)
	_, err := io.WriteString(w, printable(text, "\n"))
	return err
}
