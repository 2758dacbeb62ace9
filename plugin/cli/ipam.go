// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newIPAMCommand returns `weave ipam`.
func newIPAMCommand() *cobra.Command {
	var noTrunc bool
	cmd := &cobra.Command{
		Use:   "ipam",
		Short: "List the subnets of networks, and who holds which addresses of them",
		Long: "List the subnets out of which addresses are handed out on this host, with who holds what.\n\n" +
			"A subnet of a network of the cluster is held by hosts in blocks, a line for each host. While etcd does\n" +
			"not answer, only this host's is listed, and stderr says so. Other subnets are this host's as a whole.\n" +
			"ADDRESSES is how many these blocks have, ENDPOINTS how many endpoints are known on the host that have\n" +
			"an address of the subnet.\n\n" +
			"IPAM says who hands the addresses out, if that is not weave for all. Docker's own IPAM knows this host\n" +
			"alone: on a network of the cluster weave claims each address when a container gets it.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print ids, and all blocks, in full")
	format := addFormatFlag(cmd, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		pools, err := newClient(cmd).Pools(cmd.Context())
		if err != nil {
			return err
		}
		if err := warnOfPools(cmd, pools); err != nil {
			return err
		}
		if *format == formatTable {
			rows, inCluster := holdings(pools)
			withDocker := slices.ContainsFunc(pools, func(p api.Pool) bool { return p.Docker })
			l := listing[holding]{rows: rows, columns: holdingColumns(noTrunc, inCluster, withDocker)}
			return l.printTable(cmd.OutOrStdout())
		}
		return listing[api.Pool]{rows: pools, heads: poolHeads}.print(cmd.OutOrStdout(), *format)
	}
	return cmd
}

// warnOfPools says on stderr of which networks only a part is known.
func warnOfPools(cmd *cobra.Command, pools []api.Pool) error {
	told := map[string]bool{}
	for _, p := range pools {
		if p.Error == "" || told[p.Cluster] {
			continue
		}
		told[p.Cluster] = true
		line := printable(fmt.Sprintf("weave: network %s of the cluster: %s", p.Cluster, p.Error), "")
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), line); err != nil {
			return err
		}
	}
	return nil
}

// holding is what one host holds of one pool, a line of the table.
type holding struct {
	api.Pool
	api.Holder
}

// holdings returns the lines of the table, and whether hosts have names in them.
func holdings(pools []api.Pool) (rows []holding, inCluster bool) {
	for _, p := range pools {
		for _, h := range p.Holders {
			rows = append(rows, holding{p, h})
			inCluster = inCluster || h.Host != ""
		}
	}
	return rows, inCluster
}

func holdingColumns(noTrunc, inCluster, withDocker bool) []column[holding] {
	short := shortener(noTrunc)
	columns := []column[holding]{
		{"NETWORK", func(h holding) string {
			if h.NetworkName == "" {
				return short(h.NetworkID)
			}
			return h.NetworkName
		}},
		{"SUBNET", func(h holding) string { return h.Subnet.String() }},
		{"GATEWAY", func(h holding) string {
			if !h.Gateway.IsValid() {
				return ""
			}
			return h.Gateway.String()
		}},
		{"IPAM", func(h holding) string {
			if h.Docker {
				return "docker"
			}
			return "weave"
		}},
		{"HOST", func(h holding) string { return h.Host }},
		{"ADDRESSES", func(h holding) string { return count(h.Addresses) }},
		{"ENDPOINTS", func(h holding) string { return strconv.Itoa(h.Endpoints) }},
		{"BLOCKS", func(h holding) string {
			if n := len(h.Blocks); n > maxBlocks+1 && !noTrunc {
				return fmt.Sprintf("%s and %d more", spaced(h.Blocks[:maxBlocks]), n-maxBlocks)
			}
			return spaced(h.Blocks)
		}},
	}
	return slices.DeleteFunc(columns, func(c column[holding]) bool {
		return c.head == "HOST" && !inCluster || c.head == "IPAM" && !withDocker
	})
}

// maxBlocks is how many blocks a cell shows without --no-trunc.
const maxBlocks = 4

// count returns a number of addresses. Those of a large IPv6 subnet are told by their power of two.
func count(n uint64) string {
	if n < 1<<32 {
		return strconv.FormatUint(n, 10)
	}
	return "2^" + strconv.Itoa(bits.Len64(n-1))
}

// poolHeads are the heads of the columns that a template makes.
var poolHeads = map[string]any{
	"Subnet":      "SUBNET",
	"Range":       "RANGE",
	"Gateway":     "GATEWAY",
	"Space":       "SPACE",
	"NetworkID":   "NETWORK ID",
	"NetworkName": "NETWORK",
	"Cluster":     "CLUSTER",
	"Docker":      "DOCKER",
	"Holders":     []string{"HOLDERS"},
	"Error":       "ERROR",
}
