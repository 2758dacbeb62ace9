// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newHostsCommand returns `weave hosts`.
func newHostsCommand() *cobra.Command {
	var noTrunc, quiet bool
	cmd := &cobra.Command{
		Use:   "hosts",
		Short: "List the hosts of the cluster",
		Long: "List the hosts of the cluster, as this one sees them; none where weave serves without --cluster.\n\n" +
			"A host is gone when it has not told etcd for the time of its lease that it is there: it has no power,\n" +
			"no network, or no weave that runs. It is listed as long as it may come back to its addresses.\n" +
			"ENDPOINTS are those that this host knows of, on networks of the cluster that it is on, too.\n\n" +
			"TUNNEL is how frames pass between this host and one that it has networks in common with: the time of a\n" +
			"small one there and back, or what is wrong and since when. weave status says more, and what to do.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print ids in full")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the ids of hosts only")
	format := addFormatFlag(cmd, "")
	cmd.MarkFlagsMutuallyExclusive("quiet", "format")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hosts, err := newClient(cmd).Hosts(cmd.Context())
		if err != nil {
			return err
		}
		if _, err := checkEtcd(cmd); err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if quiet {
			return printHosts(w, hosts, noTrunc)
		}
		return listing[api.Host]{hosts, hostColumns, hostHeads}.print(w, *format)
	}
	return cmd
}

// checkEtcd reports whether this host is in a cluster. While etcd does not answer it says so on stderr, and how old
// what is listed of other hosts may be.
func checkEtcd(cmd *cobra.Command) (inCluster bool, err error) {
	c, err := newClient(cmd).Cluster(cmd.Context())
	if err != nil || c == nil || c.Error == "" {
		return c != nil, err
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "weave: %s\n", printable(etcdAnswers(c), ""))
	return true, err
}

var hostColumns = []column[api.Host]{
	{"NAME", func(h api.Host) string { return h.Name }},
	{"ADDRESS", func(h api.Host) string { return h.Address.String() }},
	{"STATE", hostState},
	{"ENDPOINTS", func(h api.Host) string { return strconv.Itoa(h.Endpoints) }},
	{"TUNNEL", tunnelState},
	{"SINCE", func(h api.Host) string { return h.Since.Format(time.RFC3339) }},
}

// hostState says whether a host is there, and since when it is not. This one always is, whatever etcd has of it.
func hostState(h api.Host) string {
	switch {
	case h.Self:
		return "here"
	case h.Present:
		return "present"
	case h.GoneSince.IsZero():
		return "gone"
	}
	return "gone " + age(time.Since(h.GoneSince))
}

// tunnelState says whether all frames pass between this host and that one, or what is wrong since when.
func tunnelState(h api.Host) string {
	switch t := h.Tunnel; {
	case t == nil || !h.Present:
		return "-"
	case t.Fault != "":
		return t.String() + " " + age(time.Since(t.Since))
	default:
		return t.String()
	}
}

// age returns a duration in its largest unit that it has at least one of: 40s, 5m, 23h, 4d.
func age(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= unit.of {
			return strconv.Itoa(int(d/unit.of)) + unit.name
		}
	}
	return strconv.Itoa(int(max(d, 0)/time.Second)) + "s"
}

// hostHeads are the heads of the columns that a template makes.
var hostHeads = map[string]any{
	"ID":        "HOST",
	"Name":      "NAME",
	"Address":   "ADDRESS",
	"Self":      "SELF",
	"Present":   "PRESENT",
	"Since":     "SINCE",
	"GoneSince": "GONE SINCE",
	"Endpoints": "ENDPOINTS",
	"Tunnel":    "TUNNEL",
}

// printHosts prints the ids of hosts.
func printHosts(w io.Writer, hosts []api.Host, noTrunc bool) error {
	short := shortener(noTrunc)
	for _, h := range hosts {
		if _, err := fmt.Fprintln(w, printable(short(h.ID), "")); err != nil {
			return err
		}
	}
	return nil
}
