// SPDX-License-Identifier: Apache-2.0

//go:build docs

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra/doc"

	"github.com/weaveplugin/weave/plugin/cli"
	"github.com/weaveplugin/weave/plugin/daemon"
)

// main, built with the tag docs, writes the man pages and the shells' completions into a directory, for `make docs`.
// The library that makes man pages out of commands is so not in the binary that users have.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: docs DIRECTORY")
		os.Exit(2)
	}
	if err := writeDocs(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

// writeDocs makes dir/man/*.8 and, in dir/completions, weave.bash, _weave and weave.fish. The pages carry the date in
// the environment variable SOURCE_DATE_EPOCH if it is set.
func writeDocs(dir string) error {
	if err := os.Unsetenv("WEAVE_SOCKET"); err != nil { // otherwise the pages would have its value as a default
		return err
	}
	man, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	if err := errors.Join(os.MkdirAll(man, 0o755), os.MkdirAll(completions, 0o755)); err != nil {
		return err
	}
	root, err := cli.NewCommand([]string{"weave"}, build(), daemon.NewCommand(newProgram))
	if err != nil {
		return err
	}
	header := doc.GenManHeader{Title: "WEAVE", Section: "8", Source: "weave", Manual: "Docker networks"}
	return errors.Join(
		root.GenBashCompletionFileV2(filepath.Join(completions, "weave.bash"), true),
		root.GenZshCompletionFile(filepath.Join(completions, "_weave")),
		root.GenFishCompletionFile(filepath.Join(completions, "weave.fish"), true),
		doc.GenManTree(root, &header, man),
	)
}
