// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// NewCommand returns `weave serve`. It runs the program that newProgram returns for its configuration.
func NewCommand(newProgram func(Config, *logrus.Entry) Program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the plugin",
		Long: "Run the plugin: answer Docker's network and IPAM calls, and weave's own API, until SIGTERM or\n" +
			"SIGINT. Each flag can also be given as the environment variable whose name follows it in brackets.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, invalid := newConfig(cmd.Flags(), os.Getenv)
			if invalid != nil && !cfg.Managed {
				return invalid
			}
			out := cmd.ErrOrStderr()
			if cfg.Managed {
				out = cmd.OutOrStdout() // Docker logs what a plugin writes to its standard error as errors
			}
			log := newLog(cfg, out)
			if err := errors.Join(needNetAdmin(), dropSysAdmin(log)); err != nil {
				return err
			}
			program := newProgram(cfg, log)
			if invalid != nil {
				program.Open = openFails(fmt.Errorf("%w: see docker plugin set", invalid))
			}
			return Serve(cmd.Context(), cfg, program, log)
		},
	}
	addSettings(cmd.Flags())
	return cmd
}

func newLog(cfg Config, to io.Writer) *logrus.Entry {
	log := logrus.New()
	log.SetOutput(to)
	log.SetLevel(cfg.LogLevel)
	if cfg.LogFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	}
	return logrus.NewEntry(log)
}

// openFails returns a Program's Open that fails for a reason known before.
func openFails(reason error) func(context.Context, Sockets) (*Core, error) {
	return func(context.Context, Sockets) (*Core, error) { return nil, reason }
}
