// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// neighbourTable is one of the kernel's two tables of neighbours, which all network namespaces share.
type neighbourTable struct {
	family   int    // unix.AF_INET or unix.AF_INET6
	entries  int    // of all namespaces; those that are permanent among them, which the limit is not about
	limit    int    // gc_thresh3: what is above gets no entry
	refused  uint64 // how often that was so since the kernel was started
	counted  int    // entries that the limit is about, in the namespaces that were looked into
	in       int    // how many these were; 0: none, since there are few entries anyway
	uncalled int    // namespaces of containers that were not looked into
}

// Attributes of linux/neighbour.h, and where their structs have what is read.
const (
	ndtaThresh3 = 4
	ndtaConfig  = 5
	ndtaStats   = 7

	configEntries   = 4      // struct ndt_config: ndtc_entries
	statsTableFulls = 10 * 8 // struct ndt_stats: ndts_table_fulls
)

// ndtmsg is struct ndtmsg of linux/neighbour.h, for both families.
type ndtmsg struct{}

// Len returns the size of the message, in bytes.
func (ndtmsg) Len() int { return 4 }

// Serialize returns the message.
func (ndtmsg) Serialize() []byte { return make([]byte, 4) }

// readNeighbourTables asks the kernel for its tables of neighbours.
func readNeighbourTables() ([]neighbourTable, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGHTBL, unix.NLM_F_DUMP)
	req.AddData(ndtmsg{})
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGHTBL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the kernel's tables of neighbours: %w", err)
	}
	var tables []neighbourTable
	for _, m := range messages {
		t, ok, err := parseNeighbourTable(m)
		if err != nil {
			return nil, err
		}
		told := slices.ContainsFunc(tables, func(x neighbourTable) bool { return x.family == t.family })
		if ok && !told { // the kernel tells of a table again where its answer goes on in another packet
			tables = append(tables, t)
		}
	}
	return tables, nil
}

// parseNeighbourTable reads a message about a table. It is not ok if it is about one link's settings, or of another
// family.
func parseNeighbourTable(m []byte) (t neighbourTable, ok bool, err error) {
	if len(m) < (ndtmsg{}).Len() {
		return t, false, errors.New("list the kernel's tables of neighbours: a message is cut off")
	}
	attributes, err := nl.ParseRouteAttr(m[(ndtmsg{}).Len():])
	if err != nil {
		return t, false, fmt.Errorf("list the kernel's tables of neighbours: %w", err)
	}
	t.family = int(m[0])
	for _, a := range attributes {
		switch {
		case a.Attr.Type == ndtaThresh3 && len(a.Value) >= 4:
			t.limit = int(binary.NativeEndian.Uint32(a.Value))
		case a.Attr.Type == ndtaConfig && len(a.Value) >= configEntries+4:
			t.entries = int(binary.NativeEndian.Uint32(a.Value[configEntries:]))
		case a.Attr.Type == ndtaStats && len(a.Value) >= statsTableFulls+8:
			t.refused = binary.NativeEndian.Uint64(a.Value[statsTableFulls:])
		}
	}
	return t, t.limit > 0 && (t.family == unix.AF_INET || t.family == unix.AF_INET6), nil
}

// maxCounted is how many containers' namespaces are looked into for their neighbours; each takes some 10 ms.
const maxCounted = 200

// countNeighbours counts the entries that limits are about, if there are so many in all that it may matter: the kernel
// tells the number of all entries only.
func (c *Checker) countNeighbours(ctx context.Context, tables []neighbourTable, sandboxes []string) error {
	matters := map[int]*neighbourTable{}
	for i := range tables {
		if isNear(tables[i].entries, tables[i].limit) {
			matters[tables[i].family] = &tables[i]
		}
	}
	if len(matters) == 0 {
		return nil
	}
	for family, t := range matters {
		here, err := netlink.NeighList(0, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list the host's neighbours: %w", err)
		}
		t.in++
		t.uncalled = max(len(sandboxes)-maxCounted, 0)
		for _, n := range here {
			if n.State&unix.NUD_PERMANENT == 0 && n.Flags&unix.NTF_EXT_LEARNED == 0 {
				t.counted++
			}
		}
	}
	for _, sandbox := range sandboxes[:min(len(sandboxes), maxCounted)] {
		inside, err := c.o.Launcher.List(ctx, sandbox, protocol.List{Neighbours: true})
		if err != nil {
			for _, t := range matters {
				t.uncalled++
			}
			continue
		}
		for _, t := range matters {
			t.in++
			for _, n := range inside.Neighbours {
				if n.State != "permanent" && n.Address.Is4() == (t.family == unix.AF_INET) {
					t.counted++
				}
			}
		}
	}
	return nil
}

// ofNeighbours judges whether the kernel's tables of neighbours are about to be full. What it then has no entry for is
// not reached, in whatever container.
func ofNeighbours(f facts) (found []api.HostFinding) {
	if f.tablesErr != nil {
		return []api.HostFinding{unknown("the table of neighbours can't be looked at: %v", f.tablesErr)}
	}
	var fine []string
	for _, t := range f.tables {
		name, version := "IPv4", "ipv4"
		if t.family == unix.AF_INET6 {
			name, version = "IPv6", "ipv6"
		}
		advice := fmt.Sprintf("enlarge it, with gc_thresh1 and gc_thresh2: "+
			"sysctl -w net.%s.neigh.default.gc_thresh3=%d", version, 8*t.limit)
		evidence := fmt.Sprintf("%s: %d of %d (gc_thresh3) in %d network namespaces", name, t.counted, t.limit, t.in)
		if t.in == 0 {
			evidence = fmt.Sprintf("%s: %d of %d (gc_thresh3)", name, t.entries, t.limit)
		}
		if t.uncalled > 0 {
			evidence += fmt.Sprintf(", %d more were not counted", t.uncalled)
		}
		if t.refused > 0 {
			evidence += fmt.Sprintf("; it was full %d times since the host was started", t.refused)
		}
		switch {
		case t.in > 0 && t.counted >= t.limit:
			found = append(found, failed(advice, "%s: no more neighbours are found", evidence))
		case t.in > 0 && isNear(t.counted, t.limit):
			found = append(found, warning(advice, "%s", evidence))
		default:
			fine = append(fine, evidence)
		}
	}
	return each(found, "%s", strings.Join(fine, "; "))
}
