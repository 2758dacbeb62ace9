// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/ipam"
)

// Config is the configuration of `weave serve`, checked.
type Config struct {
	Managed        bool           // weave runs as a managed plugin
	PluginSockets  []string       // paths of the sockets that Docker calls, at least one
	DriverNames    []string       // by which Docker knows the plugin
	APISocket      string         // path of the socket of weave's own API
	HTTPAddress    netip.AddrPort // where metrics are read over TCP; zero: nowhere
	APIGroup       int            // id of the group that may use the API besides root; -1: none
	State          string         // path of the state's file
	RuntimeDir     string         // directory for what lives no longer than the host is up
	Nsproc         string         // path of the nsproc binary
	DockerSocket   string         // path of the socket of Docker's API; empty: weave does without it
	DockerInterval time.Duration  // between two comparisons with what Docker has
	SandboxRoot    string         // put before Docker's paths of sandboxes; empty: they are the same here
	Range          netip.Prefix   // where IPv4 subnets are taken from
	Range6         netip.Prefix   // where IPv6 subnets are taken from; zero: a ULA prefix of weave's own making
	SubnetBits     int            // prefix length of an IPv4 subnet out of Range
	MTU            int            // bytes; of networks that don't say
	Scope          string         // "local" or ScopeGlobal: where Docker keeps networks
	Firewall       firewall.Mode  // for which protocols weave writes firewall rules
	AcceptMark     firewall.Mark  // of packets that may enter networks with gateways of their own; zero: none
	Cluster        ClusterConfig
	LogLevel       logrus.Level
	LogFormat      string // "text" or "json"
}

// Ranges returns those out of which networks get subnets.
func (c Config) Ranges() []netip.Prefix {
	if !c.Range6.IsValid() {
		return []netip.Prefix{c.Range}
	}
	return []netip.Prefix{c.Range, c.Range6}
}

// setting is one thing that can be set: by a flag, or by an environment variable of the same name in capitals.
type setting struct {
	flag     string
	fallback string                     // its value where none is given
	usage    string                     // for the help
	want     string                     // what parse accepts, for the error
	parse    func(*Config, string) bool // sets what the value says; false: it is not what is wanted
}

const (
	// dockerPluginSocket is where Docker looks for the driver weave: a socket in that directory is a plugin of its
	// name.
	dockerPluginSocket = "/run/docker/plugins/weave.sock"
	runtimeDir         = "/run/weave"
)

const (
	minDockerInterval = time.Second
	maxSocketPath     = 105 // bytes: an address holds 108, less the final zero and the two bytes that listen adds
)

// ScopeGlobal is the scope of networks that Docker keeps in its swarm.
const ScopeGlobal = "global"

const wantPath = "an absolute path"

var wantSocket = fmt.Sprintf("an absolute path of at most %d bytes", maxSocketPath)

// settings are all that there are, in the order of the help.
var settings = slices.Concat(hostSettings, clusterSettings, logSettings)

// hostSettings are those about this host.
var hostSettings = []setting{
	{
		flag: "plugin-socket", fallback: dockerPluginSocket,
		usage: "`path` of the socket that Docker calls; several with commas between",
		want:  wantSocket,
		parse: func(c *Config, v string) bool { return parseSockets(&c.PluginSockets, v) },
	}, {
		flag:  "driver-names",
		usage: "`names`, with commas between, by which Docker knows the plugin; empty: as its sockets are called",
		want:  "names such as weave or registry.example/weave:1.0",
		parse: func(c *Config, v string) bool { return v == "" || parseNames(&c.DriverNames, v) },
	}, {
		flag: "api-socket", fallback: api.DefaultSocket,
		usage: "`path` of the socket of weave's own API",
		want:  wantSocket,
		parse: func(c *Config, v string) bool { return parseSocket(&c.APISocket, v) },
	}, {
		flag:  "api-group",
		usage: "`group`, name or number, that may use the API besides root; empty: none",
		want:  "a group of this machine, or its number; a managed plugin knows numbers only",
		parse: func(c *Config, v string) bool { return parseGroup(&c.APIGroup, v) },
	}, {
		flag:  "http-address",
		usage: "IP `address` and port of the web page and of metrics for Prometheus; empty: none",
		want:  "an IP address of this host and a port, such as 127.0.0.1:9784 or [::1]:9784",
		parse: func(c *Config, v string) bool { return v == "" || parseAddrPort(&c.HTTPAddress, v) },
	}, {
		flag: "state", fallback: "/var/lib/weave/weave.db",
		usage: "`path` of the state's file",
		want:  wantPath,
		parse: func(c *Config, v string) bool { return parsePath(&c.State, v) },
	}, {
		flag: "runtime-dir", fallback: runtimeDir,
		usage: "`path` of the directory for what lives no longer than the host is up: endpoints",
		want:  wantPath,
		parse: func(c *Config, v string) bool { return parsePath(&c.RuntimeDir, v) },
	}, {
		flag:  "nsproc",
		usage: "`path` of the nsproc binary; empty: beside this one",
		want:  "the absolute path of an executable file",
		parse: func(c *Config, v string) bool { return parseNsproc(&c.Nsproc, v) },
	}, {
		flag: "docker-socket", fallback: "/var/run/docker.sock",
		usage: "`path` of the socket of Docker's API; none: do without names of containers",
		want:  wantPath + " or none",
		parse: func(c *Config, v string) bool { return v == "" || v == "none" || parsePath(&c.DockerSocket, v) },
	}, {
		flag: "docker-interval", fallback: "1m",
		usage: "`time` between two looks for what Docker has forgotten, which is released after two or three",
		want:  fmt.Sprintf("a duration of at least %s, such as 90s or 5m", minDockerInterval),
		parse: func(c *Config, v string) bool { return parseDuration(&c.DockerInterval, v, minDockerInterval) },
	}, {
		flag:  "sandbox-root",
		usage: "`path` to put before Docker's paths of sandboxes",
		want:  wantPath,
		parse: func(c *Config, v string) bool { return v == "" || parsePath(&c.SandboxRoot, v) },
	}, {
		flag: "range", fallback: ipam.DefaultRangeV4().String(),
		usage: "IPv4 `prefix` that subnets are taken from",
		want:  fmt.Sprintf("an IPv4 prefix such as %s, of addresses that a container can have", ipam.DefaultRangeV4()),
		parse: func(c *Config, v string) bool { return parsePrefix(&c.Range, v) && ipam.ValidRangeV4(c.Range) },
	}, {
		flag:  "range6",
		usage: "IPv6 `prefix` that subnets are taken from; empty: one of weave's own making",
		want: fmt.Sprintf("an IPv6 prefix of %d bits at most, such as fd12:3456:789a::/48, "+
			"of addresses that a container can have", ipam.SubnetBitsV6),
		parse: func(c *Config, v string) bool {
			return v == "" || parsePrefix(&c.Range6, v) && ipam.ValidRangeV6(c.Range6)
		},
	}, {
		flag: "subnet-bits", fallback: strconv.Itoa(ipam.DefaultSubnetBits),
		usage: "prefix `length` of the IPv4 subnet that a network gets",
		want:  fmt.Sprintf("%d..%d", ipam.MinSubnetBits, ipam.MaxSubnetBits),
		parse: func(c *Config, v string) bool {
			return parseNumber(&c.SubnetBits, v, ipam.MinSubnetBits, ipam.MaxSubnetBits)
		},
	}, {
		flag: "mtu", fallback: "1500",
		usage: "MTU, in `bytes`, of networks that don't say",
		want:  fmt.Sprintf("%d..%d", driver.MinMTU, driver.MaxMTU),
		parse: func(c *Config, v string) bool { return parseNumber(&c.MTU, v, driver.MinMTU, driver.MaxMTU) },
	}, {
		flag: "scope", fallback: "local",
		usage: "where Docker keeps networks: local or global",
		want:  "local or global",
		parse: func(c *Config, v string) bool { return parseWord(&c.Scope, v, "local", ScopeGlobal) },
	}, {
		flag: "firewall", fallback: string(firewall.Auto),
		usage: "write firewall rules for IPv4 and IPv6 (auto), for one of them, or none: auto, ipv4, ipv6 or off",
		want:  "auto, ipv4, ipv6 or off",
		parse: func(c *Config, v string) bool { return parseWord(&c.Firewall, v, firewall.Modes...) },
	}, {
		flag:  "accept-fwmark",
		usage: "let packets with this `mark`, which rules of yours set, into networks with a gateway of their own",
		want:  "a mark such as 0x1, or 0x1/0x1",
		parse: func(c *Config, v string) bool {
			var err error
			c.AcceptMark, err = firewall.ParseMark(v)
			return err == nil
		},
	},
}

var logSettings = []setting{
	{
		flag: "log-level", fallback: "info",
		usage: "log messages from this level on: error, warning, info, debug or trace",
		want:  "error, warning, info, debug or trace",
		parse: func(c *Config, v string) bool { return parseLevel(&c.LogLevel, v) },
	}, {
		flag: "log-format", fallback: "text",
		usage: "format of the log: text or json",
		want:  "text or json",
		parse: func(c *Config, v string) bool { return parseWord(&c.LogFormat, v, "text", "json") },
	},
}

// managedFlag says that Docker runs weave as a managed plugin.
const managedFlag = "managed"

// addSettings makes every setting a flag.
func addSettings(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.Bool(managedFlag, false, "run as a managed plugin, which has the host's /run at "+hostRoot+
		"/run: with other defaults, and alive\neven where it can't work, to tell Docker why")
	for _, s := range settings {
		flags.String(s.flag, s.fallback, fmt.Sprintf("%s [$%s]", s.usage, variable(s.flag)))
	}
}

// variable returns the name of the environment variable that sets the same as flag does.
func variable(flag string) string {
	return "WEAVE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// newConfig reads all settings: each from its flag if that is given, else from the environment variable unless that is
// empty, else it has its default. The error names everything that is wrong at once; the Config that comes with it has
// the defaults in place of the wrong values.
func newConfig(flags *pflag.FlagSet, getenv func(string) string) (Config, error) {
	c := Config{Managed: flags.Lookup(managedFlag).Value.String() == "true"}
	var errs []error
	names := map[string]string{} // of the settings, as the user knows them
	var ofCluster []string       // those about a cluster that don't have their defaults
	for _, s := range settings {
		name, value, fallback := s.read(c.Managed, flags, getenv)
		names[s.flag] = name
		if strings.HasPrefix(s.flag, clusterPrefix) && value != fallback {
			ofCluster = append(ofCluster, name)
		}
		next := c
		if s.parse(&next, value) {
			c = next
			continue
		}
		errs = append(errs, fmt.Errorf("%s %q: want %s", name, value, s.want))
		s.parse(&c, fallback)
	}
	if len(c.DriverNames) == 0 {
		c.DriverNames = socketNames(c.PluginSockets)
	}
	if len(errs) > 0 {
		return c, errors.Join(errs...)
	}
	if c.Range.Bits() > c.SubnetBits {
		return c, fmt.Errorf("%s %s: want one that holds subnets of %s %d",
			names["range"], c.Range, names["subnet-bits"], c.SubnetBits)
	}
	if err := c.Cluster.check(); err != nil {
		return c, err
	}
	if len(c.Cluster.Endpoints) == 0 && len(ofCluster) > 0 {
		return c, fmt.Errorf("%s: want %s, too, since without it this host is in no cluster",
			strings.Join(ofCluster, ", "), names["cluster"])
	}
	if slices.Contains(c.PluginSockets, c.APISocket) {
		return c, fmt.Errorf("%s %q: want another path than %s's",
			names["api-socket"], c.APISocket, names["plugin-socket"])
	}
	return c, nil
}

// read returns the value of a setting, the name of what gave it, as the user knows it, and the default.
func (s setting) read(managed bool, flags *pflag.FlagSet, getenv func(string) string) (name, value, fallback string) {
	fallback = s.fallback
	if v, ok := managedValues[s.flag]; ok && managed {
		fallback = v
	}
	env := getenv(variable(s.flag))
	switch {
	case flags.Changed(s.flag):
		return "--" + s.flag, flags.Lookup(s.flag).Value.String(), fallback
	case env != "":
		return variable(s.flag), env, fallback
	case managed:
		return variable(s.flag), fallback, fallback
	default:
		return "--" + s.flag, fallback, fallback
	}
}

// socketNames returns the driver names that the sockets have for Docker, sorted: weave.sock is the driver weave.
func socketNames(sockets []string) []string {
	var names []string
	for _, socket := range sockets {
		names = append(names, strings.TrimSuffix(filepath.Base(socket), ".sock"))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
