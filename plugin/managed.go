package main

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/api"
)

// hostRoot is where a managed plugin has what it has of the host's file system: /run, at hostRoot/run.
const hostRoot = "/host"

// managedValues are the defaults of settings that differ in a managed plugin. They are here rather than in config.json
// because `docker plugin upgrade` keeps the variables that an earlier version had, and gives no new ones.
//
// Docker reaches a managed plugin at the first socket, under the plugin's full name. The second one is on the host,
// where it makes `-d weave` work: no managed plugin has a name without a tag.
var managedValues = map[string]string{
	"plugin-socket": managedSocket + "," + hostRoot + "/run/docker/plugins/weave.sock",
	"api-socket":    hostRoot + "/run/weave/weave.sock",
	"docker-socket": hostRoot + "/run/docker.sock",
	"sandbox-root":  hostRoot,
}

// managedSocket is where Docker looks for a managed plugin's socket, as seen from inside; see config.json.
const managedSocket = "/run/docker/plugins/weave.sock"

// place is what a managed plugin can tell of where it is.
type place struct {
	id     string // Docker's, of the plugin; empty: not found out
	shared bool   // mounts that the host makes below /run appear here, too
}

func findPlace() (place, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return place{}, fmt.Errorf("read weave's own mounts: %w", err)
	}
	return readPlace(string(mounts)), nil
}

// readPlace finds it in the text of /proc/self/mountinfo. The directory of the plugin's socket is one on the host that
// is called as the plugin's id; a mount that follows those on the host has a master.
func readPlace(mountinfo string) place {
	var p place
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line) // proc_pid_mountinfo(5): id parent device root mountpoint options optional... -
		if len(fields) < 7 {
			continue
		}
		switch root, mountpoint := fields[3], fields[4]; mountpoint {
		case path.Dir(managedSocket):
			p.id = path.Base(root)
		case hostRoot + "/run":
			optional, _, _ := strings.Cut(strings.Join(fields[6:], " "), "- ")
			p.shared = slices.ContainsFunc(strings.Fields(optional), func(f string) bool { return strings.HasPrefix(f, "master:") })
		}
	}
	return p
}

const notShared = "the host's /run is not a shared mount, so sandboxes made from now on can't be seen: container ends are not " +
	"announced and live=nsproc fails, all else works; run `mount --make-rshared /` on the host, then disable and enable the plugin"

// tellDrivers puts in s the names to be used with `docker network create -d`. A managed plugin, whose full name may not
// be known yet, has that one besides; if it is the first of names with the tag latest, Docker finds it where the user
// means the first name, and then nothing under that one.
func tellDrivers(s *api.Status, names []string, plugin string) {
	s.Docker.Drivers = names
	if plugin == "" {
		return
	}
	s.Docker.Drivers = append(slices.Clip(names), plugin)
	short, tagged := strings.CutSuffix(plugin, ":latest")
	if !tagged || !slices.Contains(names, short) {
		return
	}
	s.Docker.Drivers = slices.DeleteFunc(s.Docker.Drivers, func(name string) bool { return name == short })
	s.Warnings = append(slices.Clip(s.Warnings), fmt.Sprintf("docker has this plugin under the alias %s, and so does not find the driver %s: "+
		"type -d %s and --ipam-driver %s, or install the plugin without --alias", short, short, plugin, plugin))
}
