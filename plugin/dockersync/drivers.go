// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"fmt"
	"slices"
)

// DriverNames returns the names that can be used with `docker network create -d`, and a warning for each configured
// name that can't.
func (w *Watcher) DriverNames() (usable, warnings []string) {
	n := w.names.Load()
	return driverNames(w.drivers, n.plugin, n.plugins)
}

// driverNames returns the configured names and, of a managed plugin, its full name, own. Where the user types NAME,
// Docker takes any managed plugin called NAME:latest, even a disabled one, before it looks for a socket: such a NAME is
// not usable. Plugins are the names of all managed plugins.
func driverNames(configured []string, own string, plugins []string) (usable, warnings []string) {
	usable = slices.Clone(configured)
	if own != "" {
		usable = append(usable, own)
	}
	for _, name := range configured {
		hiding := name + ":latest"
		if !slices.Contains(plugins, hiding) {
			continue
		}
		usable = slices.DeleteFunc(usable, func(d string) bool { return d == name })
		if hiding == own {
			warnings = append(warnings, fmt.Sprintf("docker has this plugin under the alias %s, "+
				"and so does not find the driver %s: type -d %s and --ipam-driver %s; "+
				"or remove its networks and the plugin, and install it without --alias", name, name, own, own))
		} else {
			warnings = append(warnings, fmt.Sprintf("docker has another plugin called %s, "+
				"and so does not find the driver %s: docker plugin rm %s", hiding, name, hiding))
		}
	}
	return usable, warnings
}
