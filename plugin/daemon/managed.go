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
	"runtime-dir":   hostRoot + "/run/weave",
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

// tellUnseen warns in s if mounts that Docker made after weave started don't reach it: weave can't see the sandbox that
// was made last. Earlier ones it may have found when it started.
func tellUnseen(s *api.Status, endpoints []driver.Endpoint, root sandbox.Root) {
	var last driver.Endpoint
	for _, e := range endpoints {
		if e.State == driver.Up && !e.Created.Before(last.Created) { // others may be left over from containers that have ended
			last = e
		}
	}
	if last.Sandbox == "" {
		return
	}
	f, err := root.Open(last.Sandbox)
	if err == nil {
		f.Close()
	}
	if errors.Is(err, sandbox.ErrNotVisible) {
		warn(s, "sandboxes can't be seen, so container ends are not announced and live=nsproc fails, all else works: %v", sandbox.ErrNotVisible)
	}
}

// tellDrivers puts in s the names to be used with `docker network create -d`: the configured ones and, of a managed
// plugin, the full name, own. Where the user means NAME, Docker takes any managed plugin called NAME:latest, a disabled one
// too, before it looks for a socket: such a name of weave's does not work.
func tellDrivers(s *api.Status, names []string, own string, plugins []string) {
	s.Docker.Drivers = slices.Clone(names)
	if own != "" {
		s.Docker.Drivers = append(s.Docker.Drivers, own)
	}
	for _, name := range names {
		hiding := name + ":latest"
		if !slices.Contains(plugins, hiding) {
			continue
		}
		s.Docker.Drivers = slices.DeleteFunc(s.Docker.Drivers, func(d string) bool { return d == name })
		if hiding == own {
			warn(s, "docker has this plugin under the alias %s, and so does not find the driver %s: type -d %s and "+
				"--ipam-driver %s; or remove its networks and the plugin, and install it without --alias", name, name, own, own)
		} else {
			warn(s, "docker has another plugin called %s, and so does not find the driver %s: docker plugin rm %s", hiding, name, hiding)
		}
	}
}

// tellTaken warns in s of sockets that are gone or have somebody else's in their place, as Weave Net puts its own there.
func tellTaken(s *api.Status, taken []string) {
	for _, path := range taken {
		warn(s, "%s is not weave's socket any more, and weave is not reached there: "+
			"stop the program that took it, if it was one, then restart weave", path)
	}
}

// warn adds a warning to s, whose others are those of each status.
func warn(s *api.Status, format string, args ...any) {
	s.Warnings = append(slices.Clip(s.Warnings), fmt.Sprintf(format, args...))
}
