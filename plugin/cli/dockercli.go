// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// dockerName is the name of the link to this binary through which the docker command calls it as a plugin, for
	// `docker weave ps`.
	dockerName = "docker-weave"
	// dockerMetadata is the argument with which the docker command requests a plugin's description.
	dockerMetadata = "docker-cli-plugin-metadata"
)

// NewCommand returns the command for args, which begin with the program's name: `weave` or, if the docker command
// called it, `docker weave`. More are commands besides those of this package.
func NewCommand(args []string, build Build, more ...*cobra.Command) (*cobra.Command, error) {
	root := newRootCommand(build, more)
	root.SetArgs(args[1:])
	if filepath.Base(args[0]) != dockerName {
		return root, nil
	}
	if slices.Equal(args[1:], []string{dockerMetadata}) {
		return newMetadataCommand(root.Short, build), nil
	}
	var options dockerOptions
	own, err := options.parse(args[1:])
	if err != nil {
		return nil, err
	}
	root.SetArgs(own)
	root.CompletionOptions.DisableDefaultCmd = true // the docker command's own completion calls this binary
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "docker weave"}
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flag("socket").Changed || os.Getenv("WEAVE_SOCKET") != "" {
			return nil // the user has named the weave to be used
		}
		return options.checkLocal(os.Getenv)
	}
	return root, nil
}

// newMetadataCommand returns the command that describes this plugin to the docker command. The fields and the version
// of their schema are those of docker/cli's cli-plugins/manager/metadata.go, the same since Docker 19.03.
func newMetadataCommand(short string, build Build) *cobra.Command {
	return &cobra.Command{
		Use: dockerMetadata,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				SchemaVersion, Vendor, Version, ShortDescription string
			}{"0.1.0", "The weave authors", build.Version, short})
		},
	}
}

// dockerOptions are those of the docker command's own options that say which Docker is meant.
type dockerOptions struct {
	config, context string
	hosts           []string
}

// parse reads the docker command's own options, which precede the plugin's name in the arguments. It returns the
// arguments without them and without the plugin's name, which may follow the word for help or for a completion.
func (o *dockerOptions) parse(args []string) ([]string, error) {
	flags := pflag.NewFlagSet("docker", pflag.ContinueOnError)
	flags.SetInterspersed(false)
	flags.StringVar(&o.config, "config", "", "")
	flags.StringVarP(&o.context, "context", "c", "", "")
	flags.StringArrayVarP(&o.hosts, "host", "H", nil, "")
	flags.BoolP("debug", "D", false, "")
	flags.StringP("log-level", "l", "", "")
	for _, name := range []string{"tls", "tlsverify"} {
		flags.Bool(name, false, "")
	}
	for _, name := range []string{"tlscacert", "tlscert", "tlskey"} {
		flags.String(name, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("options of docker's own: %w", err)
	}
	rest := flags.Args()
	at := 0
	before := []string{"help", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}
	if len(rest) > 0 && slices.Contains(before, rest[0]) {
		at = 1
	}
	if len(rest) > at && rest[at] == "weave" {
		rest = slices.Delete(rest, at, at+1)
	}
	return rest, nil
}

// checkLocal returns an error if the docker command is set to use the Docker of another machine, since weave lists what
// is on this one.
func (o *dockerOptions) checkLocal(getenv func(string) string) error {
	host := cmp.Or(strings.Join(o.hosts, ","), getenv("DOCKER_HOST"))
	context := o.context
	if context == "" && host == "" { // the docker command's own order
		current, err := o.currentContext(getenv)
		if err != nil {
			return err
		}
		context = cmp.Or(getenv("DOCKER_CONTEXT"), current)
	}
	var remote string
	switch {
	case context != "" && context != "default":
		remote = "context " + context
	case host != "" && !strings.HasPrefix(host, "unix://"):
		remote = "host " + host
	default:
		return nil
	}
	return fmt.Errorf("docker is set to use another machine's Docker (%s), and this lists what is on this machine: "+
		"run it there, or name the weave to be used with --socket or WEAVE_SOCKET", remote)
}

// currentContext returns the context that was chosen with `docker context use`, from the docker command's
// configuration; empty: none was.
func (o *dockerOptions) currentContext(getenv func(string) string) (string, error) {
	dir := cmp.Or(o.config, getenv("DOCKER_CONFIG"), filepath.Join(getenv("HOME"), ".docker"))
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read docker's configuration: %w", err)
	}
	var config struct{ CurrentContext string }
	if err := json.Unmarshal(b, &config); err != nil {
		return "", fmt.Errorf("read docker's configuration %s/config.json: %w", dir, err)
	}
	return config.CurrentContext, nil
}
