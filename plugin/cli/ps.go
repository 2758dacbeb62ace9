// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newPsCommand returns `weave ps`.
func newPsCommand() *cobra.Command {
	var networks []string
	var live string
	var local, noTrunc, quiet bool
	cmd := &cobra.Command{
		Use:   "ps [CONTAINER...]",
		Short: "List containers on weave networks with their addresses",
		Long: "List the endpoints of containers on weave networks, one a line; of the given containers only, if any\n" +
			"is given, by name or by id. A container that weave does not know is not listed, and is no error.\n\n" +
			"On a host of a cluster those on other hosts are listed, too, of the networks that this host is on; but\n" +
			"not with --local, --live, --quiet or --format weave, which are about the containers of this host.\n\n" +
			"With --live the kernel is asked what is really there, and each difference from what weave tracks is\n" +
			"shown. The exit status says whether the listing could be made, not whether there are differences.",
		Example: "  weave ps\n" +
			"  weave ps web --live\n" +
			"  weave ps --network app --format '{{.ContainerName}} {{join .Addresses \" \"}}'\n" +
			"  weave ps --live --format json | jq '.[] | select(.drift != [])'",
	}
	cmd.Flags().StringArrayVar(&networks, "network", nil,
		"list endpoints on this `network` only, by name or id; may be repeated")
	cmd.Flags().StringVar(&live, "live", "",
		"show what is really there, too: ask the kernel, or nsproc in each container (--live=nsproc)")
	cmd.Flags().Lookup("live").NoOptDefVal = string(api.Kernel)
	cmd.Flags().BoolVar(&local, "local", false, "list endpoints on this host only")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print ids in full")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the ids of containers only, each once")
	format := addFormatFlag(cmd, "weave (as Weave Net printed it), ")
	cmd.MarkFlagsMutuallyExclusive("quiet", "format")
	cmd.ValidArgsFunction = completeContainers
	completeFlag(cmd, "network", completeNetworks)
	completeFlag(cmd, "live", cobra.FixedCompletions(
		[]cobra.Completion{string(api.Kernel), string(api.Nsproc)}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, containers []string) error {
		source, err := liveSource(live)
		if err != nil {
			return err
		}
		if source != "" && len(containers) > 0 && isSource(containers[0]) {
			return fmt.Errorf("container %q: want --live=%[1]s, with the equals sign; "+
				"for a container of that name, its id", containers[0])
		}
		// What reads ids of containers, or what Weave Net printed, has a use for those of this host.
		local = local || quiet || *format == formatWeave
		q := api.Query{Networks: networks, Containers: containers, Live: source}
		if local {
			c, err := newClient(cmd).Cluster(cmd.Context())
			if err != nil {
				return err
			}
			q.Local = c != nil // a weave of an earlier version, which is in none, would refuse to be told
		}
		endpoints, err := newClient(cmd).Endpoints(cmd.Context(), q)
		if err != nil {
			return err
		}
		var hosts bool
		if !local && source == "" {
			if hosts, err = checkEtcd(cmd); err != nil {
				return err
			}
		}
		w := cmd.OutOrStdout()
		switch {
		case quiet:
			return printContainers(w, endpoints, noTrunc)
		case *format == formatWeave:
			return printWeaveNet(w, endpoints)
		}
		return listing[api.Endpoint]{endpoints, psColumns(noTrunc, source != "", hosts), psHeads}.print(w, *format)
	}
	return cmd
}

// liveSource parses the value of --live.
func liveSource(value string) (api.Source, error) {
	if value == "" || isSource(value) {
		return api.Source(value), nil
	}
	return "", fmt.Errorf("--live %q: want %s or %s", value, api.Kernel, api.Nsproc)
}

func isSource(value string) bool {
	return value == string(api.Kernel) || value == string(api.Nsproc)
}

// psColumns returns the columns of the table; live and hosts say which of those are there that not each table has.
func psColumns(noTrunc, live, hosts bool) []column[api.Endpoint] {
	short := shortener(noTrunc)
	columns := []column[api.Endpoint]{
		{"CONTAINER", func(e api.Endpoint) string { return short(e.ContainerID) }},
		{"NAME", func(e api.Endpoint) string { return e.ContainerName }},
		{"NETWORK", func(e api.Endpoint) string {
			if e.NetworkName == "" {
				return short(e.NetworkID)
			}
			return e.NetworkName
		}},
		{"ADDRESS", func(e api.Endpoint) string { return spaced(e.Addresses) }},
		{"GATEWAY", func(e api.Endpoint) string { return strings.ReplaceAll(e.Gateway, ",", " ") }},
		{"MAC", func(e api.Endpoint) string { return e.MAC }},
		{"STATE", func(e api.Endpoint) string { return string(e.State) }},
		{"HOST END", func(e api.Endpoint) string { return e.HostEnd }},
	}
	if hosts {
		host := column[api.Endpoint]{"HOST", func(e api.Endpoint) string { return e.Host }}
		columns = slices.Insert(columns, 3, host) // before ADDRESS
	}
	if live {
		columns = append(columns, column[api.Endpoint]{"LIVE", liveCell})
	}
	return columns
}

// liveCell returns the drift, or that there is none.
func liveCell(e api.Endpoint) string {
	if len(e.Drift) == 0 {
		return "ok"
	}
	texts := make([]string, 0, maxDrift+1)
	for i, d := range e.Drift {
		if i == maxDrift && len(e.Drift) > maxDrift+1 {
			texts = append(texts, fmt.Sprintf("and %d more", len(e.Drift)-i))
			break
		}
		texts = append(texts, fmt.Sprintf("%.200s", d.Text))
	}
	return strings.Join(texts, "; ")
}

// maxDrift is how many differences a cell shows; --format json has them all.
const maxDrift = 4

// psHeads are the heads of the columns that a template makes.
var psHeads = map[string]any{
	"ID":            "ENDPOINT",
	"NetworkID":     "NETWORK ID",
	"NetworkName":   "NETWORK",
	"ContainerID":   "CONTAINER",
	"ContainerName": "NAME",
	"MAC":           "MAC",
	"Addresses":     []string{"ADDRESS"},
	"Gateway":       "GATEWAY",
	"Bridge":        "BRIDGE",
	"HostEnd":       "HOST END",
	"Sandbox":       "SANDBOX",
	"State":         "STATE",
	"Created":       "CREATED",
	"Host":          "HOST",
	"Remote":        "REMOTE",
	"Stale":         "STALE",
	"Drift":         []string{"DRIFT"},
	"Live": map[string]any{
		"Source":    "SOURCE",
		"Error":     "ERROR",
		"Bridge":    "LIVE BRIDGE",
		"Name":      "LINK",
		"MAC":       "LIVE MAC",
		"Addresses": []string{"LIVE ADDRESS"},
		"Up":        "UP",
	},
}

// printContainers prints the ids of the endpoints' containers, each once, in the order of the listing.
func printContainers(w io.Writer, endpoints []api.Endpoint, noTrunc bool) error {
	short := shortener(noTrunc)
	printed := map[string]bool{"": true}
	for _, e := range endpoints {
		if printed[e.ContainerID] {
			continue
		}
		printed[e.ContainerID] = true
		if _, err := fmt.Fprintln(w, printable(short(e.ContainerID), "")); err != nil {
			return err
		}
	}
	return nil
}

// printWeaveNet prints lines as Weave Net's `weave ps` does: container id, MAC and addresses, one line for each link on
// the network. An endpoint whose container is not known gets "weave:" and its own id; Weave Net, too, printed what is
// no container's id for the bridge's own address.
func printWeaveNet(w io.Writer, endpoints []api.Endpoint) error {
	for _, e := range endpoints {
		id := truncate(e.ContainerID, shortID)
		if id == "" {
			id = "weave:" + truncate(e.ID, shortID)
		}
		line := strings.TrimRight(strings.Join([]string{id, e.MAC, spaced(e.Addresses)}, " "), " ")
		if _, err := fmt.Fprintln(w, printable(line, "")); err != nil {
			return err
		}
	}
	return nil
}

// shortener returns a function that cuts ids, or one that doesn't.
func shortener(noTrunc bool) func(string) string {
	if noTrunc {
		return func(id string) string { return id }
	}
	return func(id string) string { return truncate(id, shortID) }
}

// spaced prints a list with a space between its members.
func spaced[T fmt.Stringer](list []T) string {
	texts := make([]string, 0, len(list))
	for _, member := range list {
		texts = append(texts, member.String())
	}
	return strings.Join(texts, " ")
}
