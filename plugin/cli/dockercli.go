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
	// dockerName is how this binary is called, through a link, as a plugin of the docker command: `docker weave ps`.
	dockerName = "docker-weave"
	// dockerMetadata is the argument with which the docker command asks a plugin what it is.
	dockerMetadata = "docker-cli-plugin-metadata"
)

// NewCommand returns the command for args, which begin with the program's name: `weave` or, if the docker command called
// it, `docker weave`. More are commands besides those of this package.
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
	root.CompletionOptions.DisableDefaultCmd = true // docker's own asks this binary
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "docker weave"}
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flag("socket").Changed || os.Getenv("WEAVE_SOCKET") != "" {
			return nil // the user has said whom to ask
		}
		return options.checkLocal(os.Getenv)
	}
	return root, nil
}

// newMetadataCommand tells the docker command what this is. The fields and the version of their schema are those of
// docker/cli's cli-plugins/manager/metadata.go, the same since Docker 19.03.
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

// dockerOptions are what the docker command was told before the plugin's name, as far as it says which Engine is meant.
type dockerOptions struct {
	config, context string
	hosts           []string
}

// parse takes the docker command's own options from the arguments, which it passes on as they are, and the name of
// the plugin, which stands behind them, or behind the word with which help or a completion is asked for.
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
	if len(rest) > 0 && slices.Contains([]string{"help", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, rest[0]) {
		at = 1
	}
	if len(rest) > at && rest[at] == "weave" {
		rest = slices.Delete(rest, at, at+1)
	}
	return rest, nil
}

// checkLocal is an error if docker speaks to the Engine of another machine: weave answers for this one only.
func (o *dockerOptions) checkLocal(getenv func(string) string) error {
	host := cmp.Or(strings.Join(o.hosts, ","), getenv("DOCKER_HOST"))
	context := o.context
	if context == "" && host == "" { // docker's own order
		current, err := o.currentContext(getenv)
		if err != nil {
			return err
		}
		context = cmp.Or(getenv("DOCKER_CONTEXT"), current)
	}
	var engine string
	switch {
	case context != "" && context != "default":
		engine = "context " + context
	case host != "" && !strings.HasPrefix(host, "unix://"):
		engine = "host " + host
	default:
		return nil
	}
	return fmt.Errorf("docker is told to speak to another Engine (%s), and this lists what is on this machine: "+
		"run it there, or say whom to ask with --socket or WEAVE_SOCKET", engine)
}

// currentContext is the one chosen with `docker context use`, from docker's configuration; empty: none.
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
