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

// The kernel refuses setns(2) to the plugin, whatever a thread of it tries; nsproc, which it executes, regains the right.
func TestPluginCanNotEnterNamespaces(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "--internal")
	h.Run(t, "--network", "app")
	awaitEndpoints(t, h, 1)
	for range 20 { // threads that do the work exist by now
		if e := endpoints(t, h, api.Query{Live: api.Nsproc})[0]; e.Live.Error != "" || e.Live.Name != "eth0" || len(e.Live.Addresses) == 0 {
			t.Fatalf("nsproc's answer: %+v", e.Live)
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
		for set, wanted := range map[string]bool{"CapEff": false, "CapPrm": false, "CapInh": false, "CapAmb": false, "CapBnd": true} {
			if got := capability(t, string(b), set, capSysAdmin); got != wanted {
				t.Errorf("%s: CAP_SYS_ADMIN in %s: %v, want %v", name, set, got, wanted)
			}
		}
		want(t, string(b), "NoNewPrivs:\t0")
	}
}

// capability says whether a set in a /proc/PID/status has a capability.
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
