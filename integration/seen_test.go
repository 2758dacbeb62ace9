// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/integration/lab"
)

// protocols are those by which places are asked.
var protocols = []string{"icmp", "tcp", "udp"}

var seenBinary = sync.OnceValues(func() (string, error) {
	const binary = "../build/seen"
	build := exec.Command("go", "build", "-o", binary, "./seen")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program seen: %w\n%s", err, out)
	}
	return binary, nil
})

// seen returns a command that runs the program in ./seen in a network namespace, by its path.
func seen(t *testing.T, namespace string, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := seenBinary()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command("nsenter", append([]string{"--net=" + namespace, binary}, args...)...)
}

// answerAll has every address of a network namespace answer those who ask, until the end of t.
func answerAll(t *testing.T, namespace string) {
	t.Helper()
	cmd := seen(t, namespace, "serve")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s: %q, %v", cmd, line, err)
	}
}

// answers asks addresses from a network namespace and returns, by "PROTOCOL ADDRESS" for those that have answered, as
// whom they see the one that asks; "-" for icmp.
func answers(t *testing.T, namespace string, addresses ...string) map[string]string {
	t.Helper()
	cmd := seen(t, namespace, append([]string{"ask"}, addresses...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v", cmd, err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 {
			got[f[0]+" "+f[1]] = f[2]
		}
	}
	return got
}

// reachesAll fails t unless each of the addresses comes to answer the one who asks from a namespace, by each protocol.
func reachesAll(t *testing.T, what, namespace string, addresses ...string) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, what, func() error {
		got := answers(t, namespace, addresses...)
		for _, address := range addresses {
			for _, protocol := range protocols {
				if got[protocol+" "+address] == "" {
					return fmt.Errorf("no answer by %s from %s", protocol, address)
				}
			}
		}
		return nil
	})
}

// reachesNone fails t if one of the addresses answers the one who asks from a namespace. To ask once is enough, as for
// noPing.
func reachesNone(t *testing.T, what, namespace string, addresses ...string) {
	t.Helper()
	if got := answers(t, namespace, addresses...); len(got) > 0 {
		t.Errorf("%s: reached %q", what, slices.Sorted(maps.Keys(got)))
	}
}

// seenOutside fails t unless outside comes to see the one who asks from a namespace with these addresses, by IPv4 and
// IPv6, over TCP and UDP alike; empty: nothing gets there.
func seenOutside(t *testing.T, what, namespace, ipv4, ipv6 string) {
	t.Helper()
	want := map[string]string{}
	for address, source := range map[string]string{outside.Addr().String(): ipv4, outside6.String(): ipv6} {
		if source != "" {
			want["tcp "+address], want["udp "+address], want["icmp "+address] = source, source, "-"
		}
	}
	lab.Eventually(t, 10*time.Second, what+": as whom it is seen outside", func() error {
		got := answers(t, namespace, outside.Addr().String(), outside6.String())
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New("(-want +got)\n" + diff)
		}
		return nil
	})
}

// hostNamespace returns the path of a host's own network namespace.
func hostNamespace(h *lab.Host) string { return fmt.Sprintf("/proc/%d/ns/net", h.PID()) }

// sandboxOf returns the path of a container's network namespace.
func sandboxOf(t *testing.T, h *lab.Host, container string) string {
	t.Helper()
	return sandboxPath(h, h.Docker(t, "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container))
}

// sandboxPath returns the path by which this machine has a sandbox, of the path that Docker gives it on its host, where
// /var/run is a link.
func sandboxPath(h *lab.Host, key string) string {
	return h.Path("/run/" + strings.TrimPrefix(key, "/var/run/"))
}

// addressesOf returns the addresses of a network namespace that are valid beyond one link.
func addressesOf(t *testing.T, namespace string) []string {
	t.Helper()
	const list = "ip -o address show scope global | awk '{print $4}' | cut -d/ -f1"
	out, err := exec.Command("nsenter", "--net="+namespace, "sh", "-c", list).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
