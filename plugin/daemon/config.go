package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/ipam"
)

// Config is the configuration of `weave serve`, checked.
type Config struct {
	Managed       bool         // weave runs as a managed plugin
	PluginSockets []string     // paths of the sockets that the Engine calls, at least one
	DriverNames   []string     // by which the Engine knows the plugin
	APISocket     string       // path of the socket of weave's own API
	APIGroup      int          // id of the group that may use the API besides root; -1: none
	State         string       // path of the state's file
	RuntimeDir    string       // directory of what lives no longer than the host is up
	Nsproc        string       // path of the nsproc binary
	DockerSocket  string       // path of the Engine's API socket; empty: weave does without it
	SandboxRoot   string       // put before the Engine's paths of sandboxes; empty: they are the same here
	Range         netip.Prefix // where IPv4 subnets are taken from
	Range6        netip.Prefix // where IPv6 subnets are taken from; zero: a ULA prefix of weave's own making
	SubnetBits    int          // prefix length of an IPv4 subnet out of Range
	MTU           int          // bytes; of networks that don't say
	Scope         string       // "local" or "global": where the Engine keeps networks
	LogLevel      logrus.Level
	LogFormat     string // "text" or "json"
}

// setting is one thing that can be set: by a flag, or by an environment variable of the same name in capitals.
type setting struct {
	flag  string
	value string                     // unless set
	usage string                     // for the help
	want  string                     // what parse accepts, for the error
	parse func(*Config, string) bool // false: not what is wanted
}

const (
	// dockerPluginSocket is where Docker looks for the driver weave: every socket in that directory is a plugin.
	dockerPluginSocket = "/run/docker/plugins/weave.sock"
	runtimeDir         = "/run/weave"
)

const (
	wantPath   = "an absolute path"
	wantSocket = "an absolute path of at most 105 bytes"
)

// settings are all that there are.
var settings = []setting{
	{"plugin-socket", dockerPluginSocket, "`path` of the socket that the Engine calls; several with commas between", wantSocket,
		func(c *Config, v string) bool { return parseSockets(&c.PluginSockets, v) }},
	{"driver-names", "", "`names`, with commas between, by which the Engine knows the plugin; empty: as its sockets are called", "names such as weave or registry.example/weave:1.0",
		func(c *Config, v string) bool { return v == "" || parseNames(&c.DriverNames, v) }},
	{"api-socket", api.DefaultSocket, "`path` of the socket of weave's own API", wantSocket,
		func(c *Config, v string) bool { return parseSocket(&c.APISocket, v) }},
	{"api-group", "", "`group`, name or number, that may use the API besides root; empty: none", "a group of this machine, or its number; a managed plugin knows numbers only",
		func(c *Config, v string) bool { return parseGroup(&c.APIGroup, v) }},
	{"state", "/var/lib/weave/weave.db", "`path` of the state's file", wantPath,
		func(c *Config, v string) bool { return parsePath(&c.State, v) }},
	{"runtime-dir", runtimeDir, "`path` of the directory for what lives no longer than the host is up: endpoints", wantPath,
		func(c *Config, v string) bool { return parsePath(&c.RuntimeDir, v) }},
	{"nsproc", "", "`path` of the nsproc binary; empty: beside this one", "the absolute path of an executable file",
		func(c *Config, v string) bool { return parseNsproc(&c.Nsproc, v) }},
	{"docker-socket", "/var/run/docker.sock", "`path` of the Engine's API socket; none: do without names of containers", wantPath + " or none",
		func(c *Config, v string) bool { return v == "" || v == "none" || parsePath(&c.DockerSocket, v) }},
	{"sandbox-root", "", "`path` to put before the Engine's paths of sandboxes", wantPath,
		func(c *Config, v string) bool { return v == "" || parsePath(&c.SandboxRoot, v) }},
	{"range", "10.32.0.0/12", "IPv4 `prefix` that subnets are taken from", "an IPv4 prefix such as 10.32.0.0/12, of addresses that a container can have",
		func(c *Config, v string) bool {
			return parsePrefix(&c.Range, v) && c.Range.Addr().Is4() && ipam.Usable(c.Range)
		}},
	{"range6", "", "IPv6 `prefix` that subnets are taken from; empty: one of weave's own making", "an IPv6 prefix of 64 bits at most, such as fd12:3456:789a::/48, of addresses that a container can have",
		func(c *Config, v string) bool {
			return v == "" || parsePrefix(&c.Range6, v) && c.Range6.Addr().Is6() && c.Range6.Bits() <= 64 && ipam.Usable(c.Range6)
		}},
	{"subnet-bits", "22", "prefix `length` of the IPv4 subnet that a network gets", "8..29",
		func(c *Config, v string) bool { return parseNumber(&c.SubnetBits, v, 8, 29) }},
	{"mtu", "1500", "MTU, in `bytes`, of networks that don't say", "68..65535",
		func(c *Config, v string) bool { return parseNumber(&c.MTU, v, 68, 65535) }},
	{"scope", "local", "where the Engine keeps networks: local or global", "local or global",
		func(c *Config, v string) bool { return parseWord(&c.Scope, v, "local", "global") }},
	{"log-level", "info", "log messages from this level on: error, warning, info or debug", "error, warning, info or debug",
		func(c *Config, v string) bool { return parseLevel(&c.LogLevel, v) }},
	{"log-format", "text", "format of the log: text or json", "text or json",
		func(c *Config, v string) bool { return parseWord(&c.LogFormat, v, "text", "json") }},
}

// managedFlag says that Docker runs weave as a managed plugin.
const managedFlag = "managed"

// addSettings makes every setting a flag.
func addSettings(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.Bool(managedFlag, false, "run as a managed plugin, which has the host's /run at "+hostRoot+"/run: with other defaults, and alive\n"+
		"even where it can't work, to tell Docker why")
	for _, s := range settings {
		flags.String(s.flag, s.value, fmt.Sprintf("%s [$%s]", s.usage, variable(s.flag)))
	}
}

// variable is the environment variable that sets the same as flag does.
func variable(flag string) string {
	return "WEAVE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// newConfig reads all settings: the flag if given, else the environment variable unless it is empty, else the default.
// Whatever is wrong is told at once, and the default is in its place in the config that comes with the error.
func newConfig(flags *pflag.FlagSet, getenv func(string) string) (Config, error) {
	c := Config{Managed: flags.Lookup(managedFlag).Value.String() == "true"}
	var errs []error
	names := map[string]string{} // of the settings, as the user knows them
	for _, s := range settings {
		fallback := s.value
		if managed, ok := managedValues[s.flag]; ok && c.Managed {
			fallback = managed
		}
		name, value := "--"+s.flag, fallback
		if env := getenv(variable(s.flag)); flags.Changed(s.flag) {
			value = flags.Lookup(s.flag).Value.String()
		} else if env != "" {
			name, value = variable(s.flag), env
		} else if c.Managed {
			name = variable(s.flag)
		}
		names[s.flag] = name
		next := c
		if s.parse(&next, value) {
			c = next
			continue
		}
		errs = append(errs, fmt.Errorf("%s %q: want %s", name, value, s.want))
		s.parse(&c, fallback)
	}
	if len(c.DriverNames) == 0 {
		for _, socket := range c.PluginSockets { // weave.sock is the driver weave: the Engine looks for it by that name
			c.DriverNames = append(c.DriverNames, strings.TrimSuffix(filepath.Base(socket), ".sock"))
		}
		slices.Sort(c.DriverNames)
		c.DriverNames = slices.Compact(c.DriverNames)
	}
	if len(errs) > 0 {
		return c, errors.Join(errs...)
	}
	if c.Range.Bits() > c.SubnetBits {
		return c, fmt.Errorf("%s %s: want one that holds subnets of %s %d", names["range"], c.Range, names["subnet-bits"], c.SubnetBits)
	}
	if slices.Contains(c.PluginSockets, c.APISocket) {
		return c, fmt.Errorf("%s %q: want another path than %s's", names["api-socket"], c.APISocket, names["plugin-socket"])
	}
	return c, nil
}

// Ranges returns those out of which networks get subnets.
func (c Config) Ranges() []netip.Prefix {
	if !c.Range6.IsValid() {
		return []netip.Prefix{c.Range}
	}
	return []netip.Prefix{c.Range, c.Range6}
}

func parsePath(to *string, v string) bool {
	*to = filepath.Clean(v)
	return filepath.IsAbs(v)
}

// parseSocket keeps within what a socket's address holds, 108 bytes with the final zero, and the two that listen adds.
func parseSocket(to *string, v string) bool {
	return parsePath(to, v) && len(*to) <= 105
}

func parseSockets(to *[]string, v string) bool {
	for path := range strings.SplitSeq(v, ",") {
		var socket string
		if !parseSocket(&socket, path) || slices.Contains(*to, socket) {
			return false
		}
		*to = append(*to, socket)
	}
	return true
}

func parseNames(to *[]string, v string) bool {
	*to = strings.Split(v, ",")
	return !slices.ContainsFunc(*to, func(name string) bool { return name == "" || strings.ContainsAny(name, " \t\n") })
}

func parseGroup(to *int, v string) bool {
	*to = -1
	if v == "" {
		return true
	}
	if g, err := user.LookupGroup(v); err == nil {
		v = g.Gid
	}
	return parseNumber(to, v, 0, 1<<31-1)
}

func parseNsproc(to *string, v string) bool {
	if v == "" {
		self, err := os.Executable()
		if err != nil {
			return false
		}
		v = filepath.Join(filepath.Dir(self), "nsproc")
	}
	info, err := os.Stat(v)
	return parsePath(to, v) && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func parsePrefix(to *netip.Prefix, v string) bool {
	p, err := netip.ParsePrefix(v)
	*to = p
	return err == nil && p == p.Masked()
}

func parseNumber(to *int, v string, least, most int) bool {
	n, err := strconv.Atoi(v)
	*to = n
	return err == nil && least <= n && n <= most
}

func parseWord(to *string, v string, words ...string) bool {
	*to = v
	return slices.Contains(words, v)
}

func parseLevel(to *logrus.Level, v string) bool {
	level, err := logrus.ParseLevel(v)
	*to = level
	return err == nil && logrus.ErrorLevel <= level && level <= logrus.DebugLevel
}
