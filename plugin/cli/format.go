// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
)

// shortID is how many characters of an id are printed without --no-trunc; the docker command prints as many.
const shortID = 12

// The formats that have a name; everything else is a Go template.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatWeave = "weave" // of `weave ps` only
)

// listing is what a command lists and how it is printed as a table.
type listing[T any] struct {
	rows    []T
	columns []column[T]
	heads   map[string]any // for templates with `table `: what stands for each of T's fields in the head
}

// column is one column of a table.
type column[T any] struct {
	head string
	cell func(T) string
}

// print writes the listing in a format.
func (l listing[T]) print(w io.Writer, format string) error {
	switch {
	case format == formatTable:
		return l.printTable(w)
	case format == formatJSON:
		return printJSON(w, l.rows)
	case strings.HasPrefix(format, formatTable+" "):
		t, err := parseTemplate(strings.TrimPrefix(format, formatTable+" "))
		if err != nil {
			return err
		}
		table := newTable(w)
		if err := printTemplate(table, t, l.heads); err != nil {
			return err
		}
		if err := printRows(table, t, l.rows); err != nil {
			return err
		}
		return table.Flush()
	default:
		t, err := parseTemplate(format)
		if err != nil {
			return err
		}
		return printRows(w, t, l.rows)
	}
}

func (l listing[T]) printTable(w io.Writer) error {
	table := newTable(w)
	cells := make([]string, len(l.columns))
	for i, c := range l.columns {
		cells[i] = c.head
	}
	fmt.Fprintln(table, strings.Join(cells, "\t")) // Flush returns a failure to write
	for _, row := range l.rows {
		for i, c := range l.columns {
			cells[i] = printable(orDash(c.cell(row)), "")
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 8, 3, ' ', 0) }

// printJSON writes v indented, without what a terminal would take for a command.
func printJSON(w io.Writer, v any) error {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, safeJSON(text.String()))
	return err
}

// safeJSON escapes what JSON leaves as it is and a terminal would take for a command.
func safeJSON(text string) string {
	var safe strings.Builder
	for _, r := range text {
		if r == '\n' || unicode.IsPrint(r) {
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&safe, `\u%04x`, unit)
		}
	}
	return safe.String()
}

// functions are those of the docker command's templates that make sense here.
var functions = template.FuncMap{
	"json":     toJSON,
	"join":     join,
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"split":    strings.Split,
	"truncate": truncate,
}

// parseTemplate parses a Go template as the docker command does: \t and \n stand for a tab and a new line.
func parseTemplate(format string) (*template.Template, error) {
	if !strings.Contains(format, "{{") {
		return nil, fmt.Errorf("--format %q: want table, json or a Go template such as '{{.ID}}' "+
			"(weave ps: weave, too)", format)
	}
	text := strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	t, err := template.New("--format").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--format %q: %w", format, err)
	}
	return t, nil
}

func printRows[T any](w io.Writer, t *template.Template, rows []T) error {
	for _, row := range rows {
		if err := printTemplate(w, t, row); err != nil {
			return err
		}
	}
	return nil
}

// printTemplate writes one line, without what a terminal would take for a command.
func printTemplate(w io.Writer, t *template.Template, v any) error {
	var line strings.Builder
	if err := t.Execute(&line, v); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	_, err := fmt.Fprintln(w, printable(line.String(), "\n\t"))
	return err
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// join joins the elements of a list, of whatever type, with a separator.
func join(list any, separator string) (string, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return "", fmt.Errorf("join: want a list, not %T", list)
	}
	parts := make([]string, v.Len())
	for i := range parts {
		parts[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(parts, separator), nil
}

// truncate returns the first n characters of s.
func truncate(s string, n int) string {
	if r := []rune(s); 0 <= n && n < len(r) {
		return string(r[:n])
	}
	return s
}

// printable replaces the characters that are neither printable nor in keep. Docker takes any text as the name of a
// network, and a terminal takes some characters for commands.
func printable(s, keep string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || strings.ContainsRune(keep, r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// addFormatFlag adds --format to a command.
func addFormatFlag(cmd *cobra.Command, more string) *string {
	return cmd.Flags().String("format", formatTable, "`format` of the listing: table, json, "+more+
		"a Go template ('{{.ID}} {{.MAC}}'), or one after \"table \", for a table with a head")
}
