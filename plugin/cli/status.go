// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newStatusCommand returns `weave status`.
func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how weave is doing",
		Args:  cobra.NoArgs,
	}
	format := cmd.Flags().String("format", "",
		"`format` of the answer: json or a Go template; lines for people if empty")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		status, err := newClient(cmd).Status(cmd.Context())
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		switch *format {
		case "":
			return printStatus(w, status)
		case formatJSON:
			return printJSON(w, status)
		}
		t, err := parseTemplate(*format)
		if err != nil {
			return err
		}
		return printTemplate(w, t, status)
	}
	return cmd
}

// printStatus prints a status as lines for people.
func printStatus(w io.Writer, s api.Status) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) { // Flush returns a failure to write
		fmt.Fprintf(table, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...), ""))
	}
	line("Version:", "%s", s.Version)
	if s.Commit != "" {
		line("Commit:", "%s", s.Commit)
	}
	line("Running:", "since %s, for %s, process %d",
		s.Started.Format(time.RFC3339), seconds(s.Uptime).Round(time.Second), s.PID)
	line("State:", "%s, id %s", s.Store, s.StateID)
	line("Ranges:", "%s", orDash(spaced(s.Ranges)))
	line("Networks:", "%d", s.Networks)
	e := s.Endpoints
	line("Endpoints:", "%d: %d created, %d joined, %d up", e.Created+e.Joined+e.Up, e.Created, e.Joined, e.Up)
	if s.Docker.Reachable {
		line("Docker:", "its API can be read")
	} else {
		line("Docker:", "its API can't be read, names are missing or old: %s", s.Docker.Error)
	}
	if len(s.Docker.Drivers) > 0 {
		line("Drivers:", "%s", strings.Join(s.Docker.Drivers, ", "))
	}
	if c := s.Cluster; c != nil {
		line("Cluster:", "%s", etcdAnswers(c))
		line("Etcd:", "%s", strings.Join(c.Etcd, ", "))
		line("VXLAN:", "at %s, UDP port %d", c.Address, c.Port)
		line("Hosts:", "%d present; tunnels to %d probed, %d faulty", c.Hosts, c.Probed, c.Faulty)
	}
	line("Reconciled:", "%s", reconciled(s.Reconcile))
	if r := s.Reconcile; r != nil {
		items(line, r.Actions)
	}
	if n := len(s.Repairs); n > 0 {
		line("Repaired:", "%d times what another program had changed", n)
		items(line, lastRepairs(s.Repairs))
	}
	if len(s.Warnings) == 0 {
		line("Warnings:", "none")
	} else {
		line("Warnings:", "%d", len(s.Warnings))
		items(line, s.Warnings)
	}
	return table.Flush()
}

// etcdAnswers tells whether what the hosts of a cluster share can be read and written.
func etcdAnswers(c *api.Cluster) string {
	last := "never yet"
	if !c.LastContact.IsZero() {
		last = "last at " + c.LastContact.Format(time.RFC3339)
	}
	if c.Error == "" {
		return "etcd answers, " + last
	}
	return fmt.Sprintf("etcd does not answer (%s), what is known of other hosts may be old: %s", last, c.Error)
}

// maxRepairs is how many of the last repairs are printed; --format json has those that weave remembers.
const maxRepairs = 5

// lastRepairs returns the last repairs as texts.
func lastRepairs(repairs []api.Repair) []string {
	var texts []string
	for _, r := range repairs[max(0, len(repairs)-maxRepairs):] {
		text := fmt.Sprintf("%s %s: %s", r.Time.Local().Format(time.RFC3339), r.Subject, r.What)
		if r.By != "" {
			text += ", by " + r.By
		}
		texts = append(texts, text)
	}
	return texts
}

// items prints texts below a line.
func items(line func(name, format string, args ...any), texts []string) {
	for _, t := range texts {
		line("", "- %s", t)
	}
}

// reconciled describes the reconciliation at the start.
func reconciled(r *api.Reconcile) string {
	if r == nil {
		return "not yet"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "at %s, in %s", r.Ended.Format(time.RFC3339), seconds(r.Took).Round(time.Millisecond))
	switch {
	case r.Error != "":
		fmt.Fprintf(&b, ", incomplete: %s", r.Error)
	case len(r.Actions) == 0:
		b.WriteString(", nothing to do")
	}
	return b.String()
}

// seconds returns the duration that a number of the API's stands for.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
