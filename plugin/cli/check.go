// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/internal/wait"
)

// layerStatus are the exit statuses for the layers that can fail; 1 is that of a check that could not be made.
var layerStatus = map[api.CheckLayer]int{
	api.LayerFrom: 10, api.LayerRoute: 11, api.LayerTo: 12, api.LayerNeighbour: 13, api.LayerFirewall: 14,
	api.LayerListener: 15, api.LayerConnection: 16, api.LayerSize: 17, api.LayerName: 18, api.LayerBack: 19,
	api.LayerBridge: 20,
}

// failedLayer is the error of a check that has found something.
type failedLayer struct{ c api.Checked }

// Error returns what is wrong and what to do.
func (f failedLayer) Error() string {
	return fmt.Sprintf("%s: %s: %s", f.c.Layer, f.c.Evidence, f.c.Advice)
}

// Status returns the exit status.
func (f failedLayer) Status() int { return layerStatus[f.c.Layer] }

// watchPause is the time between two checks of --watch.
const watchPause = 2 * time.Second

// newCheckCommand returns `weave check`.
func newCheckCommand() *cobra.Command {
	var port uint16
	var format string
	var watch, all bool
	var networks []string
	cmd := &cobra.Command{
		Use:   "check [FROM TO|--all]",
		Short: "Find out why a container does not reach another one, or look at the host",
		Long: "Walk the way from a container to another one, or to an address, and back, and name the first layer\n" +
			"that fails, with the evidence and what to do. Probes are sent from inside the first container: a\n" +
			"question for the other one's name, a small ping, one as large as the MTU, and with --port a TCP\n" +
			"connection. Nothing is needed in the containers. Only root can do that.\n\n" +
			"With --all each two running containers of this host that share a network are checked, in both\n" +
			"directions, and those that fail are listed.\n\n" +
			"The exit status is 0 if no layer fails, 1 if it could not be checked, and otherwise that of the layer,\n" +
			"with --all of the first pair that is listed: 10 from, 11 route, 12 to, 13 neighbour, 14 firewall,\n" +
			"15 listener, 16 connection, 17 size, 18 name, 19 back, 20 bridge.\n\n" +
			hostHelp,
		Example: "  weave check\n" +
			"  weave check web db --port 5432\n" +
			"  weave check web 192.0.2.1\n" +
			"  weave check web db --format json | jq .failed\n" +
			"  weave check --all --network app",
	}
	cmd.Flags().Uint16VarP(&port, "port", "p", 0, "TCP `port` that a program listens at")
	cmd.Flags().StringVar(&format, "format", formatTable, "`format` of the output: table or json")
	cmd.Flags().BoolVar(&watch, "watch", false, "check again and again, until nothing fails or Ctrl-C")
	cmd.Flags().BoolVar(&all, "all", false, "check each two containers of this host that share a network")
	cmd.Flags().StringSliceVar(&networks, "network", nil, "with --all: `network` by name or id; may be repeated")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case all && watch:
			return errors.New("--all and --watch don't go together: name two containers to watch")
		case all:
			return cobra.NoArgs(cmd, args)
		case len(networks) > 0:
			return errors.New("--network goes with --all")
		case len(args) == 0 && port != 0:
			return errors.New("--port goes with two containers, or with --all")
		case len(args) == 0: // the host
			return nil
		}
		return cobra.ExactArgs(2)(cmd, args)
	}
	cmd.ValidArgsFunction = completeContainers
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if format != formatTable && format != formatJSON {
			return fmt.Errorf("--format %q: want table or json", format)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
		defer stop()
		if all {
			return checkAll(ctx, cmd, networks, port, format)
		}
		for {
			var err error
			if len(args) == 0 {
				err = checkHost(ctx, cmd, format)
			} else {
				err = checkOnce(ctx, cmd, args[0], args[1], port, format)
			}
			if _, found := err.(interface{ Status() int }); !watch || !found || !wait.For(ctx, watchPause) {
				return err
			}
		}
	}
	return cmd
}

func checkOnce(ctx context.Context, cmd *cobra.Command, from, to string, port uint16, format string) error {
	c, err := newClient(cmd).Check(ctx, from, to, port)
	if err != nil {
		return err
	}
	if err := printCheck(cmd.OutOrStdout(), c, format); err != nil {
		return err
	}
	if l, ok := failedIn(c); ok {
		return failedLayer{l}
	}
	return nil
}

func printCheck(w io.Writer, c api.Check, format string) error {
	if format == formatJSON {
		return printJSON(w, c)
	}
	if _, err := fmt.Fprintf(w, "%s\n", printable(c.Question, "")); err != nil {
		return err
	}
	columns := []column[api.Checked]{
		{"LAYER", func(l api.Checked) string { return string(l.Layer) }},
		{"RESULT", func(l api.Checked) string { return string(l.Result) }},
		{"EVIDENCE", func(l api.Checked) string { return l.Evidence }},
	}
	return listing[api.Checked]{c.Layers, columns, nil}.print(w, formatTable)
}
