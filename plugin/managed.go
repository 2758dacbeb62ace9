package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/nsproc/sandbox"
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

// findPluginID finds the id that Docker gave this managed plugin; empty: it is none, or nothing tells the id.
func findPluginID(cfg config) (string, error) {
	if !cfg.Managed {
		return "", nil
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("look for docker's id of this plugin: %w", err)
	}
	return pluginID(string(mountinfo)), nil
}

// pluginID is the id that Docker gave the managed plugin whose /proc/self/mountinfo this is; empty if that does not tell.
// The directory of the plugin's socket is one on the host that is called so.
func pluginID(mountinfo string) string {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line) // proc_pid_mountinfo(5): id, parent, device, root, mount point
		if len(fields) > 4 && fields[4] == path.Dir(managedSocket) {
			return path.Base(fields[3])
		}
	}
	return ""
}

// tellUnseen warns in s if mounts that Docker made after weave started don't reach it: it can see no sandbox.
func tellUnseen(s *api.Status, endpoints []driver.Endpoint, root sandbox.Root) {
	unseen := false
	for _, e := range endpoints {
		if e.State != driver.Up { // it may be left over from a container that has ended
			continue
		}
		f, err := root.Open(e.Sandbox)
		if err == nil {
			f.Close()
			return
		}
		unseen = unseen || errors.Is(err, sandbox.ErrNotVisible)
	}
	if unseen {
		s.Warnings = append(slices.Clip(s.Warnings), fmt.Sprintf("sandboxes can't be seen, so container ends are not announced and "+
			"live=nsproc fails, all else works: %v", sandbox.ErrNotVisible))
	}
}

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
