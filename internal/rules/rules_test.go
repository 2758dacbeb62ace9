// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTreeKeepsTheRules(t *testing.T) {
	tree := os.DirFS("../..")
	if _, err := os.Stat("../../go.mod"); err != nil {
		t.Fatalf("this is not the top of the tree: %v", err)
	}
	found, err := Check(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// The tree in testdata/bad breaks each rule once or more; what keeps them in it is not complained of.
func TestEachRuleCanFail(t *testing.T) {
	found, err := Check(os.DirFS("testdata/bad"))
	if err != nil {
		t.Fatal(err)
	}
	const enters = " can enter another namespace, which only nsproc's entry does"
	const netlink = "which is for driver, overlay, nsproc, internal/nlevents, internal/nstest, integration"
	want := []string{
		"api/api.go:10: api imports github.com/weaveplugin/weave/internal/mac, want the standard library only",
		"api/api.go:9: api imports github.com/sirupsen/logrus, want the standard library only",
		"api/server/server.go:7: api/server imports github.com/vishvananda/netlink, " + netlink,
		"api/server/server.go:8: api/server imports github.com/weaveplugin/weave/internal/nstest, " +
			"which is for internal/nstest",
		"api/server/server.go:9: api/server imports plugin, against the direction",
		"driver/driver.go:11: driver imports github.com/vishvananda/netns, which is for nsproc, internal/nstest",
		"driver/driver.go:15: unix.Setns" + enters,
		"driver/driver.go:16: sys.Unshare" + enters,
		"driver/driver.go:17: netns.Set" + enters,
		"driver/driver.go:18: netlink.NewHandleAt" + enters,
		"driver/driver.go:19: Namespace" + enters,
		"driver/driver.go:20: Namespace" + enters,
		"driver/driver.go:9: driver imports github.com/docker/go-plugins-helpers/network, " +
			"which is for plugin/remote, integration",
		"driver/inspect/inspect.go:7: driver/inspect imports api/server, against the direction",
		"internal/nstest/nstest.go:12: 121 columns, want at most 120",
		"internal/nstest/nstest.go:14: 121 columns, want at most 120",
		"ipam/ipam.go:6: ipam imports driver, against the direction",
		`nsproc/entry.s:1: want the line "// SPDX-License-Identifier: Apache-2.0" here`,
		"nsproc/launch/launch.go:9: syscall.SYS_SETNS" + enters,
		"plugin/cli/cli.go:7: plugin/cli imports plugin, against the direction",
		"plugin/cli/cli.go:8: plugin/cli imports plugin/daemon, against the direction",
		"plugin/daemon/daemon.go:7: plugin/daemon imports plugin/remote, against the direction",
		"plugin/main.go:7: plugin imports github.com/weaveplugin/weave/plugin/remote/wiretest, " +
			"which is for plugin/remote/wiretest",
		`store/store.go:1: want the line "// SPDX-License-Identifier: Apache-2.0" here`,
		"store/store.go:3: store imports elsewhere, against the direction",
		"store: no package comment",
		`tools/bad.sh:2: want the line "# SPDX-License-Identifier: Apache-2.0" here`,
		`tools/empty.sh:2: want the line "# SPDX-License-Identifier: Apache-2.0" here`,
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
