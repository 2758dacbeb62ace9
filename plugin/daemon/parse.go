// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// The functions here read the value of a setting, as text. They report whether it is of the form that is wanted.

func parsePath(to *string, v string) bool {
	*to = filepath.Clean(v)
	return filepath.IsAbs(v)
}

func parseSocket(to *string, v string) bool {
	return parsePath(to, v) && len(*to) <= maxSocketPath
}

// parseSockets reads different paths with commas between.
func parseSockets(to *[]string, v string) bool {
	for path := range strings.SplitSeq(v, ",") {
		var socket string
		if !parseSocket(&socket, path) || slices.Contains(*to, socket) {
			return false
		}
		*to = append(*to, socket)
	}
	return true
}

// parseNames reads names with commas between.
func parseNames(to *[]string, v string) bool {
	*to = strings.Split(v, ",")
	return !slices.ContainsFunc(*to, func(name string) bool { return name == "" || strings.ContainsAny(name, " \t\n") })
}

// parseGroup reads the name or the number of a group; no text is no group, -1.
func parseGroup(to *int, v string) bool {
	*to = -1
	if v == "" {
		return true
	}
	if g, err := user.LookupGroup(v); err == nil {
		v = g.Gid
	}
	return parseNumber(to, v, 0, 1<<31-1)
}

// parseNsproc reads the path of an executable file; no text is nsproc beside this binary.
func parseNsproc(to *string, v string) bool {
	if v == "" {
		self, err := os.Executable()
		if err != nil {
			return false
		}
		v = filepath.Join(filepath.Dir(self), "nsproc")
	}
	info, err := os.Stat(v)
	return parsePath(to, v) && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// parsePrefix reads a prefix without host bits.
func parsePrefix(to *netip.Prefix, v string) bool {
	p, err := netip.ParsePrefix(v)
	*to = p
	return err == nil && p == p.Masked()
}

// parseAddrPort reads an IP address with a port, which is not left to the kernel.
func parseAddrPort(to *netip.AddrPort, v string) bool {
	p, err := netip.ParseAddrPort(v)
	*to = p
	return err == nil && p.Port() != 0
}

func parseNumber(to *int, v string, least, most int) bool {
	n, err := strconv.Atoi(v)
	*to = n
	return err == nil && least <= n && n <= most
}

func parseDuration(to *time.Duration, v string, least time.Duration) bool {
	d, err := time.ParseDuration(v)
	*to = d
	return err == nil && d >= least
}

func parseWord[T ~string](to *T, v string, words ...T) bool {
	*to = T(v)
	return slices.Contains(words, T(v))
}

func parseLevel(to *logrus.Level, v string) bool {
	level, err := logrus.ParseLevel(v)
	*to = level
	return err == nil && logrus.ErrorLevel <= level && level <= logrus.TraceLevel
}
