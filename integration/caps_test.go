// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/api"
)

const capSysAdmin = 21 // capabilities(7)

// No thread of the plugin has CAP_SYS_ADMIN, so the kernel refuses it setns(2). The bounding set keeps the
// capability, so that nsproc, which the plugin executes, regains it.
func TestPluginCanNotEnterNamespaces(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "--internal")
	h.Run(t, "--network", "app")
	awaitEndpoints(t, h, 1)
	for range 20 { // so that the runtime has started the threads that do this work
		live := endpoints(t, h, api.Query{Live: api.Nsproc})[0].Live
		if live.Error != "" || live.Name != "eth0" || len(live.Addresses) == 0 {
			t.Fatalf("nsproc's reply: %+v", live)
		}
	}

	statuses, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", shared.plugin.PID))
	if err != nil || len(statuses) < 2 {
		t.Fatalf("threads of the plugin: %v, %v", statuses, err)
	}
	for _, name := range statuses {
		b, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // the thread has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range []string{"CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"} {
			if got, wanted := capability(t, string(b), set, capSysAdmin), set == "CapBnd"; got != wanted {
				t.Errorf("%s: CAP_SYS_ADMIN in %s: %v, want %v", name, set, got, wanted)
			}
		}
		want(t, string(b), "NoNewPrivs:\t0")
	}
}

// capability reports whether a set of capabilities in a /proc/PID/status has the one with the given number.
func capability(t *testing.T, status, set string, number int) bool {
	t.Helper()
	_, rest, ok := strings.Cut(status, set+":\t")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(line, 16, 64)
	if !ok || err != nil {
		t.Fatalf("no %s in a thread's status (%v)", set, err)
	}
	return mask&(1<<number) != 0
}
