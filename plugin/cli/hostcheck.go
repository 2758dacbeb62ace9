// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// hostHelp says what `weave check` is without arguments.
const hostHelp = "Without FROM and TO it looks at the host: the kernel and what weave may do there, rules and\n" +
	"settings of others, what may run out, and what Docker knows. What `weave status` warns of is among it.\n" +
	"From inside of a container of each network it asks whether somebody else has one of the network's\n" +
	"addresses. The exit status is 0 if nothing fails, though there may be warnings, 30 if something does, and\n" +
	"1 if the host could not be looked at."

// hostFails is the error of a check of the host that has found failures, so many.
type hostFails int

// Error says how many there are.
func (n hostFails) Error() string {
	if n == 1 {
		return "the host: 1 of the findings fails"
	}
	return fmt.Sprintf("the host: %d of the findings fail", int(n))
}

// Status returns the exit status.
func (hostFails) Status() int { return 30 }

// checkHost has the host looked at, and prints what is found.
func checkHost(ctx context.Context, cmd *cobra.Command, format string) error {
	c, err := newClient(cmd).CheckHost(ctx)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if format == formatJSON {
		err = printJSON(w, c)
	} else {
		columns := []column[api.HostFinding]{
			{"CHECK", func(f api.HostFinding) string { return string(f.Part) }},
			{"RESULT", func(f api.HostFinding) string { return string(f.Result) }},
			{"EVIDENCE", func(f api.HostFinding) string { return f.Evidence }},
			{"WHAT TO DO", func(f api.HostFinding) string { return f.Advice }},
		}
		err = listing[api.HostFinding]{c.Findings, columns, nil}.print(w, formatTable)
	}
	if err == nil && c.Failed > 0 {
		return hostFails(c.Failed)
	}
	return err
}
