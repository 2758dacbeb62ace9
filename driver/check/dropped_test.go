// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver/check/drops"
)

// TestWhyDropped: what the kernel has dropped is told where nothing else was found, and only what a probe lacks.
func TestWhyDropped(t *testing.T) {
	drop := func(protocol, reason string, length int, namespace uint64) drops.Drop {
		return drops.Drop{Reason: reason, Protocol: protocol, Length: length, Link: "eth0", NetNS: namespace}
	}
	tcp := drop("tcp", netfilterDrop, 60, 3)
	for name, tc := range map[string]struct {
		change func(*facts)
		want   string
		layer  api.CheckLayer
	}{
		"nothing fails": {func(f *facts) { f.drops = []drops.Drop{tcp} }, "", ""},
		"in the receiver": {func(f *facts) { silent(f); f.drops = []drops.Drop{tcp} },
			"; the kernel has dropped them: NETFILTER_DROP at eth0 in db", api.LayerConnection},
		"in the sender": {func(f *facts) { silent(f); f.drops = []drops.Drop{drop("tcp", "TCP_CSUM", 60, 2)} },
			"; the kernel has dropped them: TCP_CSUM at eth0 in web", api.LayerConnection},
		"on the host": {func(f *facts) { silent(f); f.drops = []drops.Drop{drop("tcp", netfilterDrop, 60, 1)} },
			"; the kernel has dropped them: NETFILTER_DROP at eth0 on the host", api.LayerFirewall},
		"elsewhere": {func(f *facts) { silent(f); f.drops = []drops.Drop{drop("tcp", netfilterDrop, 60, 9)} },
			"; the kernel has dropped them: NETFILTER_DROP at eth0 in another network namespace (net:[9])",
			api.LayerConnection},
		"nowhere known": {func(f *facts) { silent(f); f.drops = []drops.Drop{{Reason: "NO_SOCKET", Protocol: "tcp"}} },
			"; the kernel has dropped them: NO_SOCKET", api.LayerConnection},
		"it is told once": {func(f *facts) { silent(f); f.drops = []drops.Drop{tcp, tcp, tcp} },
			"; the kernel has dropped them: NETFILTER_DROP at eth0 in db", api.LayerConnection},
		"of a ping, which does not matter to a connection": {func(f *facts) {
			silent(f)
			f.drops = []drops.Drop{drop("icmp", netfilterDrop, 84, 1)}
		}, "", api.LayerConnection},
		"of a ping": {func(f *facts) {
			silent(f)
			f.Port = 0
			f.drops = []drops.Drop{drop("icmp", netfilterDrop, 84, 3)}
		}, "; the kernel has dropped them: NETFILTER_DROP at eth0 in db", api.LayerConnection},
		"what others hear": {func(f *facts) {
			silent(f)
			f.drops = []drops.Drop{drop("tcp", otherHost, 60, 9), drop("tcp", otherHost, 60, 3)}
		}, "; the kernel has dropped them: OTHERHOST at eth0 in db", api.LayerConnection},
		"a late answer": {func(f *facts) { silent(f); f.drops = []drops.Drop{drop("tcp", noSocket, 60, 2)} },
			"", api.LayerConnection},
		"the kernel can't be asked": {func(f *facts) { silent(f); f.dropsError = errors.New("it has no BTF") },
			"; the kernel can't be asked what it drops: it has no BTF", api.LayerConnection},
		"large packets": {func(f *facts) {
			f.probes.Full = errNoAnswer
			f.drops = []drops.Drop{drop("icmp", "NO_SOCKET", 84, 2), drop("icmp", "PKT_TOO_BIG", 1500, 3)}
		}, "; the kernel has dropped them: PKT_TOO_BIG at eth0 in db", api.LayerSize},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			f.namespaces = namespaces{host: 1, from: 2, to: 3, nameOfFrom: "web", nameOfTo: "db"}
			tc.change(&f)
			if got := f.whyDropped(); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if got := judge(f).Failed; got != tc.layer {
				t.Errorf("layer %q, want %q", got, tc.layer)
			}
		})
	}
}
