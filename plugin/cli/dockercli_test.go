// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDockersOwnOptionsAreTakenOff(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"weave ps web --live", "ps web --live"},
		{"weave", ""},
		{"-H unix:///run/docker.sock weave ps", "ps"},
		{"-H weave weave ps", "ps"},
		{"-Hunix:///run/docker.sock -D --log-level debug weave ps -q", "ps -q"},
		{"--config /x --tls --tlsverify --tlscacert a --tlscert b --tlskey c --context=d weave ps", "ps"},
		{"weave ps weave", "ps weave"},
		{"help weave ps", "help ps"},
		{"__complete weave ps --net", "__complete ps --net"},
		{"__completeNoDesc weave weave", "__completeNoDesc weave"},
		{"ps web", "ps web"},
	} {
		var o dockerOptions
		got, err := o.parse(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.args, diff)
		}
	}
	_, err := new(dockerOptions).parse([]string{"--new", "weave"})
	if err == nil || !strings.Contains(err.Error(), "--new") {
		t.Errorf("an option that is not docker's: %v", err)
	}
}

func TestDockerOfAnotherMachine(t *testing.T) {
	configured := func(json string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(json), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	remote, local := configured(`{"auths": {}, "currentContext": "prod"}`), configured(`{"currentContext": "default"}`)
	for _, c := range []struct {
		name, args string
		env        map[string]string
		want       string // in the error; empty: none
	}{
		{"nothing said", "", nil, ""},
		{"local context", "", map[string]string{"DOCKER_CONFIG": local}, ""},
		{"local host", "-H unix:///run/docker.sock", nil, ""},
		{"remote host", "-H tcp://192.0.2.7:2376", nil, "(host tcp://192.0.2.7:2376)"},
		{"remote host in the environment", "", map[string]string{"DOCKER_HOST": "ssh://prod"}, "(host ssh://prod)"},
		{
			"option before the environment", "-H unix:///run/docker.sock",
			map[string]string{"DOCKER_HOST": "ssh://prod"}, "",
		},
		{
			"host before the current context", "-H unix:///run/docker.sock",
			map[string]string{"DOCKER_CONFIG": remote}, "",
		},
		{"context", "--context prod", nil, "(context prod)"},
		{"default context", "--context default", map[string]string{"DOCKER_CONFIG": remote}, ""},
		{"context in the environment", "", map[string]string{"DOCKER_CONTEXT": "prod"}, "(context prod)"},
		{"current context", "", map[string]string{"DOCKER_CONFIG": remote}, "(context prod)"},
		{
			"current context of another configuration", "--config " + remote,
			map[string]string{"DOCKER_CONFIG": local}, "(context prod)",
		},
		{
			"environment before the current context", "",
			map[string]string{"DOCKER_CONFIG": remote, "DOCKER_CONTEXT": "default"}, "",
		},
		{"damaged configuration", "--config " + configured("{"), nil, "read docker's configuration"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o dockerOptions
			if _, err := o.parse(append(strings.Fields(c.args), "weave", "ps")); err != nil {
				t.Fatal(err)
			}
			err := o.checkLocal(func(name string) string { return c.env[name] })
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
