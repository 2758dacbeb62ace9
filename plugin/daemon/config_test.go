// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/weaveplugin/weave/driver/firewall"
)

// parseConfig is newConfig of a command line and an environment, with an nsproc that exists.
func parseConfig(t *testing.T, args []string, env map[string]string) (Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	addSettings(flags)
	if err := flags.Parse(append([]string{"--nsproc=" + executable(t)}, args...)); err != nil {
		t.Fatal(err)
	}
	return newConfig(flags, func(name string) string { return env[name] })
}

// executable is the path of a program, which is never run.
func executable(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nsproc")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

var comparePrefix = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{})

func TestDefaultConfig(t *testing.T) {
	got, err := parseConfig(t, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		PluginSockets:  []string{"/run/docker/plugins/weave.sock"},
		DriverNames:    []string{"weave"},
		APISocket:      "/run/weave/weave.sock",
		APIGroup:       -1,
		State:          "/var/lib/weave/weave.db",
		RuntimeDir:     "/run/weave",
		Nsproc:         got.Nsproc,
		DockerSocket:   "/var/run/docker.sock",
		DockerInterval: time.Minute,
		Range:          netip.MustParsePrefix("10.32.0.0/12"),
		SubnetBits:     22,
		MTU:            1500,
		Scope:          "local",
		Firewall:       firewall.Auto,
		Cluster:        ClusterConfig{Prefix: "weave/", Port: 6784, Lease: 30 * time.Second, Grace: 24 * time.Hour},
		LogLevel:       logrus.InfoLevel,
		LogFormat:      "text",
	}
	if diff := cmp.Diff(want, got, comparePrefix); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFlagBeatsEnvironmentBeatsDefault(t *testing.T) {
	got, err := parseConfig(t, []string{"--mtu=9000", "--docker-socket="}, map[string]string{
		"WEAVE_MTU": "1400", "WEAVE_LOG_LEVEL": "debug", "WEAVE_DOCKER_INTERVAL": "5s",
		"WEAVE_RANGE": "", "WEAVE_RANGE6": "fd12:3456:789a::/48", "WEAVE_DOCKER_SOCKET": "/run/d.sock",
		"WEAVE_HTTP_ADDRESS":  "[::1]:9784",
		"WEAVE_PLUGIN_SOCKET": "/run/docker/plugins/weave.sock,/host/run/docker/plugins/weave.sock",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.MTU != 9000 || got.LogLevel != logrus.DebugLevel || got.DockerInterval != 5*time.Second ||
		got.DockerSocket != "" || len(got.PluginSockets) != 2 ||
		got.HTTPAddress != netip.MustParseAddrPort("[::1]:9784") {
		t.Errorf("got %+v", got)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12"), netip.MustParsePrefix("fd12:3456:789a::/48")}
	if diff := cmp.Diff(want, got.Ranges(), comparePrefix); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
}

func TestBadSettingIsRefused(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("a", 105)
	for _, c := range []struct{ arg, want string }{
		{"--plugin-socket=weave.sock", `--plugin-socket "weave.sock": want an absolute path of at most 105 bytes`},
		{"--plugin-socket=", `--plugin-socket "": want an absolute path`},
		{"--plugin-socket=/a,/a", `--plugin-socket "/a,/a": want`},
		{"--plugin-socket=" + long, "want an absolute path of at most 105 bytes"},
		{
			"--plugin-socket=/run/weave/weave.sock",
			`--api-socket "/run/weave/weave.sock": want another path than --plugin-socket's`,
		},
		{"--driver-names=weave,", `--driver-names "weave,": want`},
		{"--api-socket=x", `--api-socket "x": want`},
		{"--api-group=no-such-group", `--api-group "no-such-group": want a group of this machine`},
		{"--api-group=-1", `--api-group "-1": want`},
		{"--http-address=9784", `--http-address "9784": want an IP address of this host and a port`},
		{"--http-address=:9784", `--http-address ":9784": want`},
		{"--http-address=localhost:9784", `--http-address "localhost:9784": want`},
		{"--http-address=127.0.0.1:0", `--http-address "127.0.0.1:0": want`},
		{"--http-address=127.0.0.1", `--http-address "127.0.0.1": want`},
		{"--state=weave.db", `--state "weave.db": want an absolute path`},
		{"--nsproc=/gone/nsproc", `--nsproc "/gone/nsproc": want the absolute path of an executable file`},
		{"--nsproc=/tmp", `--nsproc "/tmp": want`},
		{"--nsproc=" + plain, "want the absolute path of an executable file"},
		{"--docker-socket=docker.sock", `--docker-socket "docker.sock": want an absolute path or none`},
		{"--docker-interval=60", `--docker-interval "60": want a duration of at least 1s, such as 90s or 5m`},
		{"--docker-interval=999ms", `--docker-interval "999ms": want`},
		{"--docker-interval=-1m", `--docker-interval "-1m": want`},
		{"--sandbox-root=host", `--sandbox-root "host": want`},
		{"--range=10.32.0.0", `--range "10.32.0.0": want an IPv4 prefix`},
		{"--range=10.32.0.1/12", `--range "10.32.0.1/12": want`},
		{"--range=fd00::/48", `--range "fd00::/48": want`},
		{"--range=10.32.0.0/24", `--range 10.32.0.0/24: want one that holds subnets of --subnet-bits 22`},
		{"--range=224.0.0.0/4", `--range "224.0.0.0/4": want an IPv4 prefix`},
		{"--range6=fe80::/10", `--range6 "fe80::/10": want an IPv6 prefix`},
		{"--range6=10.0.0.0/8", `--range6 "10.0.0.0/8": want an IPv6 prefix`},
		{"--range6=fd00::/65", `--range6 "fd00::/65": want`},
		{"--subnet-bits=30", `--subnet-bits "30": want 8..29`},
		{"--mtu=big", `--mtu "big": want 68..65535`},
		{"--mtu=67", `--mtu "67": want`},
		{"--mtu=65536", `--mtu "65536": want`},
		{"--scope=swarm", `--scope "swarm": want local or global`},
		{"--firewall=on", `--firewall "on": want auto, ipv4, ipv6 or off`},
		{"--accept-fwmark=lan", `--accept-fwmark "lan": want a mark such as 0x1`},
		{"--cluster=10.0.0.1:2379", `--cluster "10.0.0.1:2379": want etcd://HOST:PORT`},
		{"--cluster=etcd://", `--cluster "etcd://": want`},
		{"--cluster=etcd://fd00::1", `--cluster "etcd://fd00::1": want`},
		{"--cluster=etcd://user@host", `want etcd://HOST:PORT`},
		{"--cluster=etcd://a:0", `want etcd://HOST:PORT`},
		{"--cluster=etcd://a:65536", `want etcd://HOST:PORT`},
		{"--cluster=etcd://a:client", `want etcd://HOST:PORT`},
		{"--cluster=etcds://a,etcd://b", `want etcd://HOST:PORT`},
		{"--cluster=etcd://a/path", `want etcd://HOST:PORT`},
		{"--cluster-lease=1500ms", `want whole seconds`},
		{"--cluster-password-file=/password", "want both or neither"},
		{"--cluster-ca=/ca.pem", "want --cluster etcds://"},
		{"--cluster-cert=/cert.pem", "want both or neither"},
		{"--cluster-user=weave", "want both or neither"},
		{"--cluster-prefix=weave", `--cluster-prefix "weave": want a text that ends with /`},
		{"--cluster-address=127.0.0.1", `--cluster-address "127.0.0.1": want an IPv4 or IPv6 address`},
		{"--cluster-port=0", `--cluster-port "0": want 1..65535`},
		{"--cluster-lease=10ms", `--cluster-lease "10ms": want whole seconds, at least 1s`},
		{"--cluster-lease=2h", `--cluster-lease "2h": want`},
		{"--cluster-address=192.0.2.1", "--cluster-address: want --cluster, too"},
		{"--cluster-port=6785", "--cluster-port: want --cluster, too"},
		{"--log-level=all", `--log-level "all": want error, warning, info, debug or trace`},
		{"--log-format=xml", `--log-format "xml": want text or json`},
	} {
		t.Run(c.arg, func(t *testing.T) {
			_, err := parseConfig(t, []string{c.arg}, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	_, err := parseConfig(t, []string{"--cluster-lease=10s", "--cluster-port=6784"},
		map[string]string{"WEAVE_CLUSTER_PREFIX": "two/", "WEAVE_CLUSTER_USER": ""})
	if err == nil || !strings.Contains(err.Error(), "WEAVE_CLUSTER_PREFIX, --cluster-lease: want --cluster, too") {
		t.Errorf("%v, want what differs from its default without a cluster", err)
	}
	_, err = parseConfig(t, []string{"--scope=x"}, map[string]string{"WEAVE_MTU": "big"})
	if err == nil || !strings.Contains(err.Error(), `WEAVE_MTU "big": want 68..65535`) ||
		!strings.Contains(err.Error(), "--scope") {
		t.Errorf("%v, want both the variable and the flag", err)
	}
}

func TestEtcdMembers(t *testing.T) {
	for v, want := range map[string][]string{
		"":                                 nil,
		"etcd://a":                         {"http://a:2379"},
		"etcd://a:1,b:2,10.0.0.3":          {"http://a:1", "http://b:2", "http://10.0.0.3:2379"},
		"etcd://a:1/":                      {"http://a:1"},
		"etcds://a,etcds://b:3":            {"https://a:2379", "https://b:3"},
		"etcd://[2001:db8::1]:4,[fd00::2]": {"http://[2001:db8::1]:4", "http://[fd00::2]:2379"},
	} {
		got, err := parseConfig(t, []string{"--cluster=" + v}, nil)
		if diff := cmp.Diff(want, got.Cluster.URLs()); err != nil || diff != "" {
			t.Errorf("%q: %v; (-want +got):\n%s", v, err, diff)
		}
	}
}

func TestGroupByNameOrNumber(t *testing.T) {
	for v, want := range map[string]int{"root": 0, "4711": 4711, "": -1} {
		got, err := parseConfig(t, []string{"--api-group=" + v}, nil)
		if err != nil || got.APIGroup != want {
			t.Errorf("%q: %d, %v; want %d", v, got.APIGroup, err, want)
		}
	}
}
