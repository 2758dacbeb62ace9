package nstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/mac"
)

// Veth makes a veth pair with the end named hostEnd in host and the end named eth0, with the addresses, in inside, as
// a container's endpoint is, both up. It returns the host end's index and eth0's MAC.
func Veth(t testing.TB, host, inside *NS, hostEnd string, addresses ...string) (index int, address mac.Address) {
	t.Helper()
	host.Do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = hostEnd
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(inside.FD())}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("add veth pair %s: %w", hostEnd, err)
		}
		link, err := netlink.LinkByName(hostEnd)
		if err != nil {
			return err
		}
		index = link.Attrs().Index
		return netlink.LinkSetUp(link)
	})
	inside.Do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		address = mac.FromBytes(link.Attrs().HardwareAddr)
		for _, a := range addresses {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("add address %s: %w", a, err)
			}
		}
		return netlink.LinkSetUp(link)
	})
	return index, address
}

// Nsproc builds nsproc for this test and returns its path.
func Nsproc(t testing.TB) string {
	t.Helper()
	return BuildNsproc(t, "-E weave_nsproc_entry")
}

// BuildNsproc builds nsproc with the linker's flags given and more environment, and returns its path.
func BuildNsproc(t testing.TB, ldflags string, env ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nsproc")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", ldflags, "-o", path, "github.com/weaveplugin/weave/nsproc")
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build nsproc: %v\n%s", err, out)
	}
	return path
}
