// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// sources are the extensions of the files that the rules are about.
var sources = []string{".go", ".s", ".sh"}

// license is how a file names its license (https://spdx.dev/learn/handling-license-info).
const license = "SPDX-License-Identifier: Apache-2.0"

const (
	maxColumns = 120 // of a line of Go
	tabColumns = 4   // that a tab counts as
)

// checkText returns where the text of a file breaks the rules.
func checkText(name, text string) []string {
	var found []string
	lines := strings.Split(text, "\n")
	want, at := "// "+license, 1
	if path.Ext(name) == ".sh" {
		want, at = "# "+license, 2 // after #!
	}
	if len(lines) < at || lines[at-1] != want {
		found = append(found, fmt.Sprintf("%s:%d: want the line %q here", name, at, want))
	}
	if path.Ext(name) != ".go" {
		return found
	}
	for i, line := range lines {
		if n := columns(line); n > maxColumns {
			found = append(found, fmt.Sprintf("%s:%d: %d columns, want at most %d", name, i+1, n, maxColumns))
		}
	}
	return found
}

func columns(line string) int {
	return utf8.RuneCountInString(line) + (tabColumns-1)*strings.Count(line, "\t")
}
