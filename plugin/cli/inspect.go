// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weaveplugin/weave/api"
)

// newInspectCommand returns `weave inspect`.
func newInspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect CONTAINER|ENDPOINT",
		Short: "Show everything about one endpoint: both ends, bridge, firewall, and the container's own view",
		Long: "Show everything about the endpoint of a container, by the container's name or id if it is on one\n" +
			"network only, or by the endpoint's id: what weave tracks, both ends of its veth pair with what they\n" +
			"have counted, the port of the bridge, the host's firewall rules about the bridge, the way out, what is\n" +
			"in the container's network namespace, and where that differs from what it should be, with what to do.",
		Example: "  weave inspect web\n" +
			"  weave inspect 1bde39a3afb8 --format json\n" +
			"  weave inspect web --format '{{.HostEnd.Name}} {{.HostEnd.Counters.RxBytes}}'",
		Args: cobra.ExactArgs(1),
	}
	format := cmd.Flags().String("format", "", "`format` of the output: json or a Go template; empty: for people")
	cmd.ValidArgsFunction = completeContainers
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		x, err := newClient(cmd).Inspect(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		switch *format {
		case "":
			return printInspection(w, x)
		case formatJSON:
			return printJSON(w, x)
		}
		t, err := parseTemplate(*format)
		if err != nil {
			return err
		}
		return printTemplate(w, t, x)
	}
	return cmd
}

// inspectionPrinter prints an inspection as lines for people.
type inspectionPrinter struct{ w *tabwriter.Writer }

// line prints a line with a head, which is empty for what belongs to the line above. Flush returns a failure to write.
func (p inspectionPrinter) line(head, format string, args ...any) {
	fmt.Fprintf(p.w, "%s\t%s\n", head, printable(fmt.Sprintf(format, args...), ""))
}

// list prints texts, the first behind the head; none: what there is instead.
func (p inspectionPrinter) list(head, none string, texts []string) {
	if len(texts) == 0 {
		p.line(head, "%s", none)
	}
	for i, t := range texts {
		if i > 0 {
			head = ""
		}
		p.line(head, "%s", t)
	}
}

func printInspection(w io.Writer, x api.Inspection) error {
	p := inspectionPrinter{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	e, n := x.Endpoint, x.Network
	p.line("Container:", "%s, id %s", orDash(e.ContainerName), orDash(truncate(e.ContainerID, shortID)))
	p.line("Endpoint:", "%s, %s", e.ID, e.State)
	p.line("Network:", "%s, id %s, bridge %s, MTU %d", orDash(n.Name), truncate(n.ID, shortID), n.Bridge, n.MTU)
	p.line("Addresses:", "%s, MAC %s", orDash(spaced(e.Addresses)), e.MAC)
	p.line("Way out:", "%s", wayOut(e, n))
	p.hostEnd(x)
	p.inside(x)
	p.sandbox(x)
	p.dns(x.DNS)
	p.firewall(x.Rules)
	var drift []string
	for _, d := range e.Drift {
		drift = append(drift, fmt.Sprintf("%s: %s", d.Text, d.Advice))
	}
	p.list("Drift:", "none", drift)
	if len(x.Problems) > 0 {
		p.list("Not seen:", "", x.Problems)
	}
	return p.w.Flush()
}

// wayOut says where what the container sends to the outside goes.
func wayOut(e api.Endpoint, n api.Network) string {
	if e.Gateway == "" {
		return "none by this network"
	}
	nat := map[string]string{"": "all translated", "no": "not translated"}[n.NAT]
	if nat == "" {
		nat = "translated: " + n.NAT
	}
	if n.Gateway == "docker" {
		return e.Gateway
	}
	return fmt.Sprintf("%s, gateway %s, %s", strings.ReplaceAll(e.Gateway, ",", " "), n.Gateway, nat)
}

func (p inspectionPrinter) hostEnd(x api.Inspection) {
	h := x.HostEnd
	if h == nil {
		p.line("Host end:", "%s: missing", x.Endpoint.HostEnd)
		return
	}
	apart := ""
	if h.Isolated {
		apart = ", isolated"
	}
	p.line("Host end:", "%s, index %d, %s, MTU %d, qdisc %s", h.Name, h.Index, upOrDown(h.Link), h.MTU, orDash(h.Qdisc))
	p.line("", "port of %s: %s%s", orDash(x.Endpoint.Live.Bridge), orDash(h.State), apart)
	p.counters(h.Counters)
	var macs []string
	for _, s := range h.Stations {
		if s.Permanent {
			macs = append(macs, s.MAC+" (permanent)")
		} else {
			macs = append(macs, s.MAC)
		}
	}
	p.line("", "the bridge sends here: %s", orDash(strings.Join(macs, " ")))
}

func upOrDown(l api.Link) string {
	switch {
	case !l.Up:
		return "down"
	case !l.Carrier:
		return "up, no carrier"
	}
	return "up"
}

func (p inspectionPrinter) counters(c *api.Counters) {
	if c == nil {
		return
	}
	p.line("", "received %d packets, %d bytes, %d errors, %d dropped; sent %d, %d, %d, %d",
		c.RxPackets, c.RxBytes, c.RxErrors, c.RxDropped, c.TxPackets, c.TxBytes, c.TxErrors, c.TxDropped)
}

func (p inspectionPrinter) inside(x api.Inspection) {
	l := x.Inside
	if l == nil {
		p.line("Inside:", "no container end was found")
		return
	}
	p.line("Inside:", "%s, index %d, %s, MTU %d, MAC %s", l.Name, l.Index, upOrDown(*l), l.MTU, orDash(l.MAC))
	p.line("", "%s", orDash(spaced(l.Addresses)))
	p.counters(l.Counters)
}

// sandbox prints what is in the container's network namespace besides the container end.
func (p inspectionPrinter) sandbox(x api.Inspection) {
	p.line("Sandbox:", "%s", orDash(x.Endpoint.Sandbox))
	if x.Sandbox == nil {
		if err := x.Endpoint.Live.Error; err != "" {
			p.line("", "%s", err)
		}
		return
	}
	var links, routes, rules, neighbours, sockets []string
	for _, l := range x.Sandbox.Links {
		if x.Inside == nil || l.Index != x.Inside.Index {
			links = append(links,
				fmt.Sprintf("%s, %s, MTU %d, %s", l.Name, upOrDown(l), l.MTU, orDash(spaced(l.Addresses))))
		}
	}
	for _, r := range x.Sandbox.Routes {
		routes = append(routes, routeText(r))
	}
	for _, r := range x.Sandbox.Rules {
		family := ""
		if r.IPv6 {
			family = "IPv6 "
		}
		rules = append(rules, fmt.Sprintf("%s%d: %s %s", family, r.Priority, r.Match, r.Action))
	}
	for _, n := range x.Sandbox.Neighbours {
		neighbours = append(neighbours, fmt.Sprintf("%s dev %s %s %s", n.Address, n.Link, orDash(n.MAC), n.State))
	}
	for _, k := range x.Sandbox.Sockets {
		sockets = append(sockets, socketText(k))
	}
	none := "none"
	if x.Sandbox.Sockets == nil {
		none = "not known: this kernel does not tell"
	}
	p.list("Other links:", "none", links)
	p.list("Routes:", "none", routes)
	p.list("Rules:", "none", rules)
	p.list("Neighbours:", "none", neighbours)
	p.list("Listening:", none, sockets)
}

// routeText writes a route as ip-route(8) does.
func routeText(r api.Route) string {
	text := r.Destination.String()
	if r.Destination.Bits() == 0 {
		text = "default"
	}
	if r.Gateway.IsValid() {
		text += " via " + r.Gateway.String()
	}
	text += " dev " + r.Link
	if r.Metric > 0 {
		text += fmt.Sprintf(" metric %d", r.Metric)
	}
	if r.MTU > 0 {
		text += fmt.Sprintf(" mtu %d", r.MTU)
	}
	return text
}

func socketText(k api.Socket) string {
	text := fmt.Sprintf("%s %s, user %d", k.Protocol, k.Address, k.UID)
	switch {
	case k.Address.Addr() == netip.IPv6Unspecified(), k.Address.Addr() == netip.IPv4Unspecified():
		text += ", on all addresses"
	case k.Address.Addr().IsLoopback():
		text += ", for the container itself only"
	}
	if k.Queued > 0 {
		unit := map[string]string{"tcp": "connections wait", "udp": "bytes wait"}[k.Protocol]
		text += fmt.Sprintf(", %d %s", k.Queued, unit)
	}
	return text
}

func (p inspectionPrinter) dns(d *api.DNS) {
	if d == nil {
		p.line("DNS:", "not known")
		return
	}
	servers := "the host's servers"
	if len(d.Servers) > 0 {
		servers = strings.Join(d.Servers, " ")
	}
	p.line("DNS:", "%s, for other names %s; search %s; options %s", d.Resolver, servers,
		orDash(strings.Join(d.Search, " ")), orDash(strings.Join(d.Options, " ")))
}

func (p inspectionPrinter) firewall(rules []api.FirewallRule) {
	var texts []string
	for _, r := range rules {
		counted := ""
		if r.Packets != nil {
			counted = fmt.Sprintf(" (%d packets, %d bytes)", *r.Packets, *r.Bytes)
		}
		texts = append(texts, fmt.Sprintf("%s: %s%s", r.Table, r.Rule, counted))
	}
	p.list("Firewall:", "no rule is about the bridge", texts)
}
