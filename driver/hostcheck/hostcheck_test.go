// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"fmt"
	"testing"

	"github.com/weaveplugin/weave/api"
)

// TestJudge: each part is told of, in its order; what weave itself warns of is among it, and takes the place of what is
// fine otherwise.
func TestJudge(t *testing.T) {
	f := facts{
		docker: &Docker{Version: "29.8.1"},
		warnings: map[api.HostPart][]string{
			api.HostState: {"disk full"}, api.HostSandboxes: {"not seen"}, api.HostDocker: {"another plugin"},
		},
	}
	for i := range maxFindings + 5 {
		f.warnings[api.HostLinks] = append(f.warnings[api.HostLinks], fmt.Sprintf("link %d", i))
	}
	found := judge(f)
	counts := map[api.HostPart]int{}
	at := 0
	for _, x := range found {
		counts[x.Part]++
		for at < len(judges) && judges[at].part != x.Part {
			at++
		}
		switch {
		case at == len(judges):
			t.Fatalf("%s is not in its order", x.Part)
		case x.Part == api.HostState && x.Result != api.CheckFailed,
			x.Part == api.HostSandboxes && x.Result != api.CheckWarning,
			x.Part == api.HostDocker && x.Evidence != "another plugin":
			t.Errorf("got %+v", x)
		}
	}
	for _, j := range judges {
		want := counts[j.part]
		switch j.part {
		case api.HostLinks:
			want = maxFindings + 1
		case api.HostCluster:
			want = 0 // this host is in none
		case api.HostState, api.HostSandboxes, api.HostDocker:
			want = 1
		}
		if counts[j.part] != want || want == 0 && j.part != api.HostCluster {
			t.Errorf("%s: %d findings, want %d", j.part, counts[j.part], want)
		}
	}
}
