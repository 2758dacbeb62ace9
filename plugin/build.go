// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"runtime/debug"

	"github.com/weaveplugin/weave/plugin/cli"
)

// What this binary was built from, set with -ldflags "-X main.version=... -X main.commit=...".
var version, commit string

// build returns version and commit. What the linker did not set, the Go toolchain may know.
func build() cli.Build {
	b := cli.Build{Version: version, Commit: commit}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = cmp.Or(b.Version, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = cmp.Or(b.Commit, s.Value)
			}
		}
	}
	b.Version = cmp.Or(b.Version, "(devel)")
	return b
}
