package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Engines that a Debian release has: the suite to give to Root.
const (
	Engine20 = "bookworm" // Docker 20.10
	Engine26 = "trixie"   // Docker 26.1
	Engine28 = "forky"    // Docker 28.5
)

// Cache is the directory where that is kept which takes long to make and is the same for all runs of the tests:
// $WEAVE_LAB_CACHE, by default /var/cache/weave-lab.
func Cache() string {
	if dir := os.Getenv("WEAVE_LAB_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/weave-lab"
}

// Root is a root directory with the Docker Engine of a Debian release. The first call makes it with debootstrap, some
// 30 s; it is kept in Cache, and hosts don't write to it.
func Root(t testing.TB, suite string) string {
	t.Helper()
	needRoot(t)
	cache := Cache()
	root := filepath.Join(cache, suite)
	if _, err := os.Stat(root); err == nil {
		return root
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(cache, suite+"-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(fresh) }() // it is still there only after a failure
	if err := debootstrap(suite, fresh); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, root); err != nil { // another process may have been faster
		if _, statErr := os.Stat(root); statErr != nil {
			t.Fatal(err)
		}
	}
	return root
}

func debootstrap(suite, dir string) error {
	mirror, err := debianMirror()
	if err != nil {
		return err
	}
	packages := "docker.io,iptables,iproute2,procps,ca-certificates,curl,iputils-ping,systemd"
	if suite != Engine20 {
		packages += ",docker-cli" // in docker.io before
	}
	args := []string{"--variant=minbase", "--include=" + packages, suite, dir, mirror}
	if _, err := os.Stat("/usr/share/debootstrap/scripts/" + suite); err != nil {
		args = append(args, "sid") // a release that this debootstrap doesn't know yet
	}
	if out, err := exec.Command("debootstrap", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap %s: %w\n%s", suite, err, out)
	}
	return nil
}

// debianMirror is where this machine gets its packages from.
func debianMirror() (string, error) {
	const fallback = "http://deb.debian.org/debian"
	for _, name := range []string{"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"} {
		f, err := os.Open(name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			fields := strings.Fields(s.Text())
			for i, field := range fields {
				if i > 0 && (fields[0] == "URIs:" || fields[0] == "deb") && strings.Contains(field, "://") {
					return field, nil
				}
			}
		}
	}
	return fallback, nil
}
