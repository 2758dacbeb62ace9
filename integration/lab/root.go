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

// Debian suites for Root, by the version of the Docker Engine that they contain.
const (
	Docker20 = "bookworm" // Docker 20.10
	Docker26 = "trixie"   // Docker 26.1
	Docker28 = "forky"    // Docker 28.5
)

// Cache returns the directory for files that take long to make and that later test runs can use again:
// $WEAVE_LAB_CACHE, by default /var/cache/weave-lab.
func Cache() string {
	if dir := os.Getenv("WEAVE_LAB_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/weave-lab"
}

// Root returns a root directory with the Docker Engine of a Debian suite, which hosts don't write to. The first call
// for a suite makes it with debootstrap, in some 30 s, and keeps it in Cache.
func Root(t testing.TB, suite string) string {
	t.Helper()
	needRoot(t)
	return Cached(t, suite, func(dir string) error { return debootstrap(suite, dir) })
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
	packages := "docker.io,iptables,iproute2,procps,ca-certificates,curl,iputils-ping,systemd"
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
