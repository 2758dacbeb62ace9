// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"os"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/internal/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// judged is a case of a judge: what it has to say of some facts.
type judged struct {
	name  string
	facts facts
	want  api.CheckResult // of the first finding
	says  string          // a part of its evidence
}

// check has a judge judge each case.
func check(t *testing.T, judge func(facts) []api.HostFinding, cases []judged) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Helper()
			found := judge(tc.facts)
			if len(found) == 0 {
				t.Fatal("nothing is found, not even that all is fine")
			}
			first := found[0]
			if first.Result != tc.want || !strings.Contains(first.Evidence, tc.says) {
				t.Errorf("got %+v, want %s with %q", found, tc.want, tc.says)
			}
			acted := first.Result == api.CheckFailed || first.Result == api.CheckWarning
			if acted != (first.Advice != "") {
				t.Errorf("%s with the advice %q", first.Result, first.Advice)
			}
		})
	}
}
