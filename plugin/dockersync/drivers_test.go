// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDriverNames(t *testing.T) {
	for _, c := range []struct {
		name    string
		plugin  string
		other   string
		drivers []string
		warning string
	}{
		{"not managed, or not known yet", "", "", []string{"weave"}, ""},
		{"full name", "registry.example/weave:latest", "", []string{"weave", "registry.example/weave:latest"}, ""},
		{"alias", "weave:latest", "", []string{"weave:latest"}, "type -d weave:latest and --ipam-driver weave:latest"},
		{"alias with a tag that hides nothing", "weave:1.0", "", []string{"weave", "weave:1.0"}, ""},
		{"another alias", "net:latest", "", []string{"weave", "net:latest"}, ""},
		{
			"hidden by another plugin", "registry.example/weave:latest", "weave:latest",
			[]string{"registry.example/weave:latest"}, "docker plugin rm weave:latest",
		},
		{"not managed, hidden", "", "weave:latest", []string{}, "docker plugin rm weave:latest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			configured := []string{"weave"}
			usable, warnings := driverNames(configured, c.plugin, []string{c.plugin, c.other})
			if diff := cmp.Diff(c.drivers, usable); diff != "" {
				t.Errorf("drivers (-want +got):\n%s", diff)
			}
			if got := strings.Join(warnings, ""); c.warning == "" && got != "" || !strings.Contains(got, c.warning) {
				t.Errorf("warning %q, want %q", got, c.warning)
			}
			if configured[0] != "weave" {
				t.Error("the configured names were changed")
			}
		})
	}
}
