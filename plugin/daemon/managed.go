// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"path"
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
	"plugin-socket": managedSocket + "," + hostRoot + dockerPluginSocket,
	"api-socket":    hostRoot + api.DefaultSocket,
	"runtime-dir":   hostRoot + runtimeDir,
	"docker-socket": hostRoot + "/run/docker.sock",
	"sandbox-root":  hostRoot,
}

// managedSocket is where Docker looks for a managed plugin's socket, as seen from inside; see config.json.
const managedSocket = dockerPluginSocket

// PluginID returns the id that Docker gave this managed plugin. It is empty if weave is none, or if the id is not to be
// found.
func (c Config) PluginID() (string, error) {
	if !c.Managed {
		return "", nil
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("look for docker's id of this plugin: %w", err)
	}
	return pluginID(string(mountinfo)), nil
}

// pluginID returns the id that Docker gave the managed plugin whose /proc/self/mountinfo this is; empty if that has
// none. On the host, the directory of the plugin's socket has the id as its name.
func pluginID(mountinfo string) string {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line) // proc_pid_mountinfo(5): id, parent, device, root, mount point
		if len(fields) > 4 && fields[4] == path.Dir(managedSocket) {
			return path.Base(fields[3])
		}
	}
	return ""
}
