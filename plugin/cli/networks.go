// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newNetworksCommand returns `weave networks`.
func newNetworksCommand() *cobra.Command {
	var noTrunc bool
	cmd := &cobra.Command{
		Use:   "networks",
		Short: "List weave networks with their bridges and subnets",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print ids in full")
	format := addFormatFlag(cmd, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		networks, err := newClient(cmd).Networks(cmd.Context())
		if err != nil {
			return err
		}
		shared := slices.ContainsFunc(networks, func(n api.Network) bool { return n.Cluster != "" })
		l := listing[api.Network]{networks, networkColumns(noTrunc, shared), networkHeads}
		return l.print(cmd.OutOrStdout(), *format)
	}
	return cmd
}

// networkColumns returns the columns of the table; shared says that one of the networks is of the cluster.
func networkColumns(noTrunc, shared bool) []column[api.Network] {
	short := shortener(noTrunc)
	columns := []column[api.Network]{
		{"NETWORK", func(n api.Network) string { return short(n.ID) }},
		{"NAME", func(n api.Network) string { return n.Name }},
		{"SUBNET", func(n api.Network) string { return spaced(n.Subnets) }},
		{"GATEWAY", func(n api.Network) string { return strings.ReplaceAll(n.Gateway, ",", " ") }},
		{"BRIDGE", func(n api.Network) string { return n.Bridge }},
		{"MTU", func(n api.Network) string { return strconv.Itoa(n.MTU) }},
		{"ENDPOINTS", func(n api.Network) string { return strconv.Itoa(n.Endpoints) }},
	}
	if shared {
		columns = append(columns, column[api.Network]{"CLUSTER", func(n api.Network) string { return n.Cluster }})
	}
	return append(columns, column[api.Network]{"NOTES", notes})
}

// notes returns what is special about a network.
func notes(n api.Network) string {
	var list []string
	if n.Internal {
		list = append(list, "internal")
	}
	switch n.NAT {
	case "":
	case "no":
		list = append(list, "no NAT")
	default:
		list = append(list, "NAT for "+n.NAT+" only")
	}
	if n.HostApart {
		list = append(list, "host apart")
	}
	if n.Multicast {
		list = append(list, "multicast")
	}
	if n.Foreign {
		list = append(list, "foreign bridge")
	}
	return strings.Join(list, ", ")
}

// networkHeads are the heads of the columns that a template makes.
var networkHeads = map[string]any{
	"ID":        "NETWORK",
	"Name":      "NAME",
	"Bridge":    "BRIDGE",
	"Foreign":   "FOREIGN",
	"MTU":       "MTU",
	"Internal":  "INTERNAL",
	"Multicast": "MULTICAST",
	"Gateway":   "GATEWAY",
	"NAT":       "NAT",
	"HostApart": "HOST APART",
	"Cluster":   "CLUSTER",
	"VNI":       "VNI",
	"Subnets":   []string{"SUBNET"},
	"Endpoints": "ENDPOINTS",
	"Created":   "CREATED",
}
