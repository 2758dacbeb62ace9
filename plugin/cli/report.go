// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// newReportCommand returns `weave report`.
func newReportCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Gather what a report of a fault needs into one archive",
		Long: "Write one archive, a compressed tar, with weave's version, settings and state, what the kernel has\n" +
			"of links, routes and rules, everything about each endpoint, and the end of weave's log. Passwords,\n" +
			"keys and the environment are not in it, nor options that users gave to Docker; names and addresses\n" +
			"are: look through it before you send it to somebody. Only root can do that.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVarP(&file, "write", "w", "", "`file` to write to; empty: weave-report-TIME.tar.gz")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if file == "" {
			file = fmt.Sprintf("weave-report-%s.tar.gz", time.Now().UTC().Format("20060102-150405"))
		}
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		err = errors.Join(newClient(cmd).Report(cmd.Context(), f), f.Close())
		if err != nil {
			return errors.Join(err, os.Remove(file))
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), printable(file, ""))
		return err
	}
	return cmd
}
