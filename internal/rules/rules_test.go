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
	const netlink = "which is for driver, overlay, nsproc, internal/nstest, integration"
	want := []string{
		"api/api.go:7: api imports github.com/sirupsen/logrus, want the standard library only",
		"api/api.go:8: api imports github.com/weaveplugin/weave/internal/mac, want the standard library only",
		"api/server/server.go:5: api/server imports github.com/vishvananda/netlink, " + netlink,
		"api/server/server.go:6: api/server imports github.com/weaveplugin/weave/internal/nstest, " +
			"which is for internal/nstest",
		"api/server/server.go:7: api/server imports plugin, against the direction",
		"driver/driver.go:13: unix.Setns" + enters,
		"driver/driver.go:14: sys.Unshare" + enters,
		"driver/driver.go:15: netns.Set" + enters,
		"driver/driver.go:16: netlink.NewHandleAt" + enters,
		"driver/driver.go:17: Namespace" + enters,
		"driver/driver.go:18: Namespace" + enters,
		"driver/driver.go:7: driver imports github.com/docker/go-plugins-helpers/network, " +
			"which is for plugin/remote, integration",
		"driver/driver.go:9: driver imports github.com/vishvananda/netns, which is for nsproc, internal/nstest",
		"driver/inspect/inspect.go:5: driver/inspect imports api/server, against the direction",
		"ipam/ipam.go:4: ipam imports driver, against the direction",
		"nsproc/launch/launch.go:7: syscall.SYS_SETNS" + enters,
		"plugin/cli/cli.go:5: plugin/cli imports plugin, against the direction",
		"plugin/cli/cli.go:6: plugin/cli imports plugin/daemon, against the direction",
		"plugin/daemon/daemon.go:5: plugin/daemon imports plugin/remote, against the direction",
		"plugin/main.go:5: plugin imports github.com/weaveplugin/weave/plugin/remote/wiretest, " +
			"which is for plugin/remote/wiretest",
		"store/store.go:3: store imports elsewhere, against the direction",
		"store: no package comment",
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
