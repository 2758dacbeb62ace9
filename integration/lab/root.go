// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Suites for Root: those of Debian, by the version of the Docker Engine that they contain, and others that are made of
// one of them.
const (
	Docker20 = "bookworm" // Docker 20.10
	Docker26 = "trixie"   // Docker 26.1
	Docker28 = "forky"    // Docker 28.5

	Docker29         = "docker29"          // forky with Docker 29.8, built by the module integration/engine29
	Docker29nftables = "docker29-nftables" // the same root; Docker runs with the firewall back end nftables
)

// docker29 is the version that the module integration/engine29 requires, as Docker calls its release.
const docker29 = "29.8.1"

// dockerArgs are the arguments that a suite's Docker is started with.
func dockerArgs(suite string) []string {
	if suite == Docker29nftables {
		return []string{"--firewall-backend=nftables"}
	}
	return nil
}

// Cache returns the directory for files that take long to make and that later test runs can use again:
// $WEAVE_LAB_CACHE, by default /var/cache/weave-lab.
func Cache() string {
	if dir := os.Getenv("WEAVE_LAB_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/weave-lab"
}

// Root returns a root directory with the Docker Engine of a suite, which hosts don't write to. The first call for a
// suite makes it and keeps it in Cache: with debootstrap, in some 30 s; Docker 29 takes ten minutes of processor time.
func Root(t testing.TB, suite string) string {
	t.Helper()
	needRoot(t)
	if suite != Docker29 && suite != Docker29nftables {
		return Cached(t, suite, func(dir string) error { return debootstrap(suite, dir) })
	}
	return Cached(t, "docker-"+docker29, func(dir string) error {
		if err := debootstrap(Docker28, dir); err != nil {
			return err
		}
		return buildDocker29(dir)
	})
}

// buildDocker29 builds dockerd and docker-proxy, from their Go modules, in the place of those in a root.
func buildDocker29(root string) error {
	top, err := topDir()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-mod=mod", "-trimpath", "-tags", "netgo osusergo nri_no_wasm",
		"-ldflags", "-X github.com/moby/moby/v2/dockerversion.Version="+docker29,
		"-o", filepath.Join(root, "usr/sbin")+"/", "tool")
	cmd.Dir = filepath.Join(top, "integration/engine29")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build Docker 29: %w\n%s", err, out)
	}
	return nil
}

var cacheMu sync.Mutex // so that no two tests fill the same directory at the same time

// Cached returns the directory with the given name in Cache. If it is not there, fill makes its contents in another
// directory, which gets the name when it is complete.
func Cached(t testing.TB, name string, fill func(dir string) error) string {
	t.Helper()
	cacheMu.Lock()
	defer cacheMu.Unlock()
	path := filepath.Join(Cache(), name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(Cache(), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(Cache(), name+"-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(fresh) }() // it is still there only after a failure
	if err := fill(fresh); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, path); err != nil { // another process may have been faster
		if _, statErr := os.Stat(path); statErr != nil {
			t.Fatal(err)
		}
	}
	return path
}

func debootstrap(suite, dir string) error {
	mirror, err := debianMirror()
	if err != nil {
		return err
	}
	packages := "docker.io,iptables,nftables,iproute2,procps,ca-certificates,curl,iputils-ping,systemd"
	if suite != Docker20 {
		packages += ",docker-cli" // which was part of docker.io before
	}
	args := []string{"--variant=minbase", "--include=" + packages, suite, dir, mirror}
	if _, err := os.Stat("/usr/share/debootstrap/scripts/" + suite); err != nil {
		args = append(args, "sid") // the script for a suite that this debootstrap does not know yet
	}
	if out, err := exec.Command("debootstrap", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap %s: %w\n%s", suite, err, out)
	}
	return nil
}

// debianMirror returns the address from which this machine's apt gets packages.
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
