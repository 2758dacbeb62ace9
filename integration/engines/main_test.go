// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const passing = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"engine: 28.5.2\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA/sub"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTable(t *testing.T) {
	readme := write(t, "README.md", "before\n"+begin+"\nold\n"+end+"\nafter\n")
	if err := run([]string{readme, write(t, "forky.json", passing)}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n" + begin + "\n" +
		"| Docker Engine | suite | tests passed | not for this engine |\n|---|---|---|---|\n" +
		"| 28.5.2 | forky | 1 | TestB |\n" + end + "\nafter\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNothingIsWritten(t *testing.T) {
	marks := begin + "\n" + end
	for name, tt := range map[string]struct{ readme, results, err string }{
		"a test failed": {marks, passing + `{"Action":"fail","Package":"p","Test":"TestC"}`,
			"TestC on 28.5.2 failed"},
		"a build failed": {marks, passing + `{"Action":"fail","Package":"q"}`, "q on 28.5.2 failed"},
		"no version": {marks, `{"Action":"pass","Package":"p","Test":"TestA"}`,
			"none reported the version of Docker"},
		"cut off": {marks,
			passing + `{"Action":"start","Package":"q"}{"Action":"run","Package":"q","Test":"TestC"}`,
			"cut off: no end of [q  q TestC]"},
		"nothing ran":     {marks, "", "no test passed"},
		"not JSON":        {marks, "FAIL", "invalid character"},
		"no marks":        {"text", passing, "want the lines"},
		"marks backwards": {end + "\n" + begin + "\n", passing, "want the lines"},
	} {
		t.Run(name, func(t *testing.T) {
			readme := write(t, "README.md", tt.readme)
			err := run([]string{readme, write(t, "forky.json", tt.results)})
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if got, _ := os.ReadFile(readme); string(got) != tt.readme {
				t.Errorf("wrote %q", got)
			}
		})
	}
}
