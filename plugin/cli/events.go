// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newEventsCommand returns `weave events`.
func newEventsCommand() *cobra.Command {
	var filters []string
	var since, until, cursor string
	var noTrunc bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow what happens to weave networks and their containers",
		Long: "Follow what happens: to networks and endpoints, drift, repairs, and what fails, each with its cause\n" +
			"where weave knows it: a call of Docker's, weave itself, or another program. What a container's link,\n" +
			"addresses or default routes lack is drift, which is told when it comes about.\n\n" +
			"With --since what has happened is printed first, of which weave keeps 4,096 events, none from before\n" +
			"it started. --since and --until take a time (2026-08-01T12:00:00Z, 2026-08-01), a duration before now\n" +
			"(10m), or seconds since 1970. The command ends at the time in --until, otherwise when weave stops.",
		Example: "  weave events --filter type=drift,type=repair\n" +
			"  weave events --since 10m --filter network=app\n" +
			"  weave events --filter endpoint=web --format '{{.Action}} {{.Text}}'\n" +
			"  weave events --since 0 --until 0s --format json",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringSliceVar(&filters, "filter", nil,
		"print events of this type, network, or endpoint or container only: `type=drift`, network=NAME, "+
			"endpoint=NAME; may be repeated")
	cmd.Flags().StringVar(&since, "since", "", "print what has happened since this `time`, too")
	cmd.Flags().StringVar(&until, "until", "", "print what happens until this `time`")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on after the event with this `cursor`, which --format json has")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print ids in full")
	format := addFormatFlag(cmd, "")
	cmd.MarkFlagsMutuallyExclusive("since", "cursor")
	completeFlag(cmd, "filter", cobra.FixedCompletions(
		[]cobra.Completion{"type=", "network=", "endpoint="},
		cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := eventQuery(filters, since, until, cursor, time.Now())
		if err != nil {
			return err
		}
		print, err := eventPrinter(cmd.OutOrStdout(), *format, noTrunc)
		if err != nil {
			return err
		}
		stream, err := newClient(cmd).Events(cmd.Context(), q)
		if err != nil {
			return err
		}
		defer stream.Close()
		return follow(stream, q, print)
	}
	return cmd
}

// follow prints the events of a stream until it ends.
func follow(stream *api.EventStream, q api.EventQuery, print func(api.Event) error) error {
	for {
		e, err := stream.Next()
		switch {
		case errors.Is(err, io.EOF) && !q.Until.IsZero() && !time.Now().Before(q.Until):
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("weave has stopped, and with it its events; " +
				"when it runs again, --since prints what has happened from its start on")
		case err != nil:
			return err
		}
		if err := print(e); err != nil {
			return err
		}
	}
}

// eventQuery returns what the flags ask for.
func eventQuery(filters []string, since, until, cursor string, now time.Time) (q api.EventQuery, err error) {
	for _, f := range filters {
		switch kind, value, _ := strings.Cut(f, "="); kind {
		case api.ParamType:
			q.Types = append(q.Types, api.EventType(value))
		case api.ParamNetwork:
			q.Networks = append(q.Networks, value)
		case api.ParamEndpoint:
			q.Endpoints = append(q.Endpoints, value)
		default:
			return q, fmt.Errorf("--filter %q: want type=TYPE, network=NAME or endpoint=NAME", f)
		}
	}
	q.Cursor = cursor
	if q.Since, err = moment("--since", since, now); err != nil {
		return q, err
	}
	q.Until, err = moment("--until", until, now)
	return q, err
}

// moments are the forms of a time besides a duration and seconds; those without a zone are local.
var moments = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02",
}

// moment parses a time as `docker events` does. It returns the zero time for an empty text.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if before, err := time.ParseDuration(text); err == nil && text != "0" {
		return now.Add(-before), nil
	}
	for _, form := range moments {
		if at, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return at, nil
		}
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds >= 0 && seconds < 1<<33 {
		return time.UnixMicro(int64(seconds * 1e6)), nil
	}
	return time.Time{}, fmt.Errorf("%s %q: want a time (2006-01-02T15:04:05Z, 2006-01-02), a duration before now "+
		"(10m), or seconds since 1970", flag, text)
}

// eventColumns returns the columns of the table. All but the last have a width: the events to come are not known.
func eventColumns(noTrunc bool) ([]column[api.Event], []int) {
	short := shortener(noTrunc)
	orShort := func(name, id string) string {
		if name == "" {
			return short(id)
		}
		return name
	}
	columns := []column[api.Event]{
		{"TIME", func(e api.Event) string { return e.Time.Local().Format("2006-01-02T15:04:05.000Z07:00") }},
		{"TYPE", func(e api.Event) string { return string(e.Type) }},
		{"ACTION", func(e api.Event) string { return string(e.Action) }},
		{"NETWORK", func(e api.Event) string { return orShort(e.NetworkName, e.NetworkID) }},
		{"CONTAINER", func(e api.Event) string { return orShort(e.ContainerName, e.ContainerID) }},
		{"CAUSE", func(e api.Event) string {
			if e.Cause == nil {
				return ""
			}
			return e.Cause.String()
		}},
		{"WHAT", func(e api.Event) string {
			if e.Text == "" {
				return spaced(e.Addresses)
			}
			return e.Text
		}},
	}
	return columns, []int{29, 8, 7, shortID, shortID, 34}
}

// eventHeads are the heads of the columns that a template makes.
var eventHeads = map[string]any{
	"Cursor":        "CURSOR",
	"Time":          "TIME",
	"Type":          "TYPE",
	"Action":        "ACTION",
	"NetworkID":     "NETWORK ID",
	"NetworkName":   "NETWORK",
	"EndpointID":    "ENDPOINT",
	"ContainerID":   "CONTAINER ID",
	"ContainerName": "CONTAINER",
	"Addresses":     []string{"ADDRESS"},
	"Drift":         "DRIFT",
	"Text":          "WHAT",
	"Cause":         "CAUSE",
}

// eventPrinter returns a function that prints an event in a format: as a line, which does not wait for the next one.
func eventPrinter(w io.Writer, format string, noTrunc bool) (func(api.Event) error, error) {
	rest, asTable := strings.CutPrefix(format, formatTable+" ")
	switch {
	case format == formatJSON:
		return func(e api.Event) error { return printJSONLine(w, e) }, nil
	case format == formatTable:
		columns, widths := eventColumns(noTrunc)
		heads := make([]string, len(columns))
		for i, c := range columns {
			heads[i] = c.head
		}
		if err := printCells(w, heads, widths); err != nil {
			return nil, err
		}
		return func(e api.Event) error {
			cells := make([]string, len(columns))
			for i, c := range columns {
				cells[i] = printable(orDash(c.cell(e)), "")
			}
			return printCells(w, cells, widths)
		}, nil
	}
	t, err := parseTemplate(rest)
	if err != nil {
		return nil, err
	}
	if !asTable {
		return func(e api.Event) error { return printTemplate(w, t, e) }, nil
	}
	if err := printTemplateCells(w, t, eventHeads); err != nil {
		return nil, err
	}
	return func(e api.Event) error { return printTemplateCells(w, t, e) }, nil
}

// printJSONLine writes v in one line, without what a terminal would take for a command.
func printJSONLine(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, safeJSON(string(text)))
	return err
}

// printTemplateCells writes what a template makes, with its tabs as the ends of cells.
func printTemplateCells(w io.Writer, t *template.Template, v any) error {
	var line strings.Builder
	if err := printTemplate(&line, t, v); err != nil {
		return err
	}
	cells := strings.Split(strings.TrimSuffix(line.String(), "\n"), "\t")
	widths := make([]int, len(cells)-1)
	for i := range widths {
		widths[i] = shortID
	}
	return printCells(w, cells, widths)
}

// printCells writes a line with cells of at least these widths, but for the last one.
func printCells(w io.Writer, cells []string, widths []int) error {
	var line strings.Builder
	for i, cell := range cells {
		if i == len(cells)-1 {
			line.WriteString(cell)
			break
		}
		fmt.Fprintf(&line, "%-*s   ", widths[i], cell)
	}
	_, err := fmt.Fprintln(w, line.String())
	return err
}
