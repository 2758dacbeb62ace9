// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strings"
	"testing"
)

// FuzzPluginID: the id is the name of the directory that is mounted where the socket is, whatever other mounts there
// are.
func FuzzPluginID(f *testing.F) {
	const id = "18676e05d40d98c16bc764ad16bb0661ea99eac5814815aa0ee32cebb67f03c9"
	const mount = "299 277 0:152 /docker/plugins/" + id +
		" /run/docker/plugins rw,relatime shared:44 - tmpfs tmpfs rw\n"
	f.Add("", "")
	f.Add(mount, "")
	f.Add("298 277 0:152 / /host/run rw,relatime master:43 - tmpfs tmpfs rw\n", mount)
	f.Add("299 277\n\n", "1 2 3:4 / /run/docker/plugins")
	f.Add("1 2 3:4 /a\\040b /run/docker/plugins/", "\x00")
	f.Fuzz(func(t *testing.T, before, after string) {
		got := pluginID(before + "\n" + after)
		if strings.ContainsAny(got, " \n\t") || !strings.Contains(before+"\n"+after, got) {
			t.Errorf("id %q out of %q", got, before+"\n"+after)
		}
		want := pluginID(before) // the first one counts
		if want == "" {
			want = id
		}
		if got := pluginID(before + "\n" + mount + after); got != want {
			t.Errorf("with the mount in between: id %q, want %q", got, want)
		}
	})
}
