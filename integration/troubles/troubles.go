// SPDX-License-Identifier: Apache-2.0

// Package troubles is the table of what can be wrong with a network, as data: what a user sees, what weave check says
// of it, and what to do. docs/troubleshooting.md is made of it, and the integration tests cause each row for real. It
// touches no network namespace.
package troubles

import (
	"fmt"
	"strings"
)

// Trouble is one fault.
type Trouble struct {
	Name     string // of the test's case that causes it
	Sees     string // what a user sees of it
	Verdict  string // the layer, or the finding, that weave check names
	Evidence string // a part of what it says of that
	Kernel   string // the kernel's reason for dropping packets, where weave check has asked it and it has one
	Why      string
	Do       string // what to do
}

// List are troubles of one kind.
type List struct {
	Title    string
	About    string // a paragraph for users
	Troubles []Trouble
}

// Lists are all that there are, in the order of the document.
var Lists = []List{Containers, Host}

// Document returns the text of docs/troubleshooting.md.
func Document() string {
	var b strings.Builder
	b.WriteString("<!-- go test ./integration/troubles -update writes this file: change the lists there. -->\n\n" +
		"# What can be wrong, and what to do\n\n" +
		"Each row has a test that causes the fault for real and compares what weave says of it. Names such as\n" +
		"`NETFILTER_DROP` are the kernel's own reasons for dropping a packet, where weave can ask it.\n")
	for _, l := range Lists {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", l.Title, l.About)
		b.WriteString("| what you see | weave check's verdict | why, and what to do |\n|---|---|---|\n")
		for _, t := range l.Troubles {
			fmt.Fprintf(&b, "| %s | %s | %s: %s |\n", cell(t.Sees), cell(t.verdict()), cell(t.Why), cell(t.Do))
		}
	}
	return b.String()
}

// verdict returns what weave check says.
func (t Trouble) verdict() string {
	text := fmt.Sprintf("`%s`: … %s …", t.Verdict, strings.TrimSpace(t.Evidence))
	if t.Kernel != "" {
		text += " `" + t.Kernel + "`"
	}
	return text
}

// cell returns a text as it stands in a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
