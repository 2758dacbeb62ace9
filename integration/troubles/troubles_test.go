// SPDX-License-Identifier: Apache-2.0

package troubles

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/troubleshooting.md anew")

// TestDocument: docs/troubleshooting.md is what the lists say.
func TestDocument(t *testing.T) {
	const file = "../../docs/troubleshooting.md"
	if *update {
		if err := os.WriteFile(file, []byte(Document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Document(), string(written)); diff != "" {
		t.Errorf("%s is not what the lists say: go test ./integration/troubles -update (-want +got):\n%s", file, diff)
	}
}

// TestLists: each trouble has all that a reader and a test need, and a name of its own.
func TestLists(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range Lists {
		if l.Title == "" || l.About == "" || len(l.Troubles) == 0 {
			t.Errorf("list %q is not complete", l.Title)
		}
		for _, x := range l.Troubles {
			if seen[x.Name] {
				t.Errorf("%q is there twice", x.Name)
			}
			seen[x.Name] = true
			if x.Name == "" || x.Sees == "" || x.Verdict == "" || x.Evidence == "" || x.Why == "" || x.Do == "" {
				t.Errorf("%q is not complete: %+v", x.Name, x)
			}
		}
	}
}
