// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/weaveplugin/weave/cluster"
)

// ClusterConfig says how this host is in a cluster.
type ClusterConfig struct {
	Endpoints    []string      // HOST:PORT of etcd's members; none: this host is in no cluster
	CA           string        // path of the certificates that sign those of etcd's members; empty: the system's
	Cert, Key    string        // paths of this host's certificate and its key; empty: it has none
	TLS          bool          // etcd is spoken to over TLS
	User         string        // for etcd; empty: none
	PasswordFile string        // path of the file with the user's password
	Prefix       string        // of all keys
	Address      netip.Addr    // where other hosts send VXLAN packets; zero: the one that this host reaches etcd with
	Port         uint16        // UDP port of these, the same on all hosts
	Lease        time.Duration // after which a host that does not answer is gone for the others
	Grace        time.Duration // after which others get the addresses that it held
}

const (
	etcdPort  = "2379"
	minLease  = time.Second
	maxLease  = time.Hour
	minGrace  = time.Minute
	tunnelUDP = "6784"

	clusterPrefix = "cluster-" // of the flags that need --cluster
)

// clusterSettings are those about a cluster, in the order of the help.
var clusterSettings = []setting{
	{
		flag:  "cluster",
		usage: "etcd that the hosts share: `etcd://HOST:PORT,HOST:PORT`, or etcds:// for TLS; empty: no cluster",
		want:  "etcd://HOST:PORT,HOST:PORT,... or etcds://HOST:PORT,...",
		parse: func(c *Config, v string) bool { return v == "" || parseEtcd(&c.Cluster, v) },
	}, {
		flag:  "cluster-ca",
		usage: "`path` of the certificates that sign etcd's; empty: the system's",
		want:  wantPath,
		parse: func(c *Config, v string) bool { return v == "" || parsePath(&c.Cluster.CA, v) },
	}, {
		flag:  "cluster-cert",
		usage: "`path` of this host's certificate for etcd",
		want:  wantPath,
		parse: func(c *Config, v string) bool { return v == "" || parsePath(&c.Cluster.Cert, v) },
	}, {
		flag:  "cluster-key",
		usage: "`path` of the certificate's key",
		want:  wantPath,
		parse: func(c *Config, v string) bool { return v == "" || parsePath(&c.Cluster.Key, v) },
	}, {
		flag:  "cluster-user",
		usage: "`name` of the user of etcd",
		want:  "a name",
		parse: func(c *Config, v string) bool { c.Cluster.User = v; return true },
	}, {
		flag:  "cluster-password-file",
		usage: "`path` of the file with that user's password",
		want:  wantPath,
		parse: func(c *Config, v string) bool { return v == "" || parsePath(&c.Cluster.PasswordFile, v) },
	}, {
		flag: "cluster-prefix", fallback: cluster.DefaultPrefix,
		usage: "`text` that all keys in etcd begin with: another one is another cluster",
		want:  "a text that ends with /",
		parse: func(c *Config, v string) bool {
			c.Cluster.Prefix = v
			return strings.HasSuffix(v, "/") && !strings.ContainsAny(v, " \t\n")
		},
	}, {
		flag:  "cluster-address",
		usage: "`address` of this host for VXLAN packets of the others; empty: the one that it reaches etcd with",
		want:  "an IPv4 or IPv6 address of this host",
		parse: func(c *Config, v string) bool { return v == "" || parseHostAddress(&c.Cluster.Address, v) },
	}, {
		flag: "cluster-port", fallback: tunnelUDP,
		usage: "UDP `port` of these packets, the same on all hosts",
		want:  "1..65535",
		parse: func(c *Config, v string) bool {
			var n int
			ok := parseNumber(&n, v, 1, 65535)
			c.Cluster.Port = uint16(n)
			return ok
		},
	}, {
		flag: "cluster-lease", fallback: cluster.DefaultLease.String(),
		usage: "`time` after which a host that does not answer is gone for the others",
		want:  fmt.Sprintf("whole seconds, at least %s and at most %s", minLease, maxLease),
		parse: func(c *Config, v string) bool {
			return parseLease(&c.Cluster.Lease, v, minLease) && c.Cluster.Lease <= maxLease
		},
	}, {
		flag: "cluster-grace", fallback: cluster.DefaultGrace.String(),
		usage: "`time` after which others get the addresses that it held",
		want:  fmt.Sprintf("whole seconds, at least %s", minGrace),
		parse: func(c *Config, v string) bool { return parseLease(&c.Cluster.Grace, v, minGrace) },
	},
}

// parseEtcd reads where etcd's members are.
func parseEtcd(to *ClusterConfig, v string) bool {
	scheme, rest, ok := strings.Cut(v, "://")
	if !ok || scheme != "etcd" && scheme != "etcds" {
		return false
	}
	to.TLS = scheme == "etcds"
	for member := range strings.SplitSeq(rest, ",") {
		u, err := url.Parse(scheme + "://" + strings.TrimPrefix(member, scheme+"://"))
		if err != nil || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), " ,") {
			return false
		}
		if strings.Contains(u.Hostname(), ":") && !strings.Contains(u.Host, "[") { // an IPv6 address without brackets
			return false
		}
		if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return false
		}
		port := cmp.Or(u.Port(), etcdPort)
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		to.Endpoints = append(to.Endpoints, net.JoinHostPort(u.Hostname(), port))
	}
	return true
}

// parseLease reads how long a lease of etcd's is to run, which counts seconds.
func parseLease(to *time.Duration, v string, least time.Duration) bool {
	return parseDuration(to, v, least) && *to%time.Second == 0
}

// parseHostAddress reads an address that other hosts can send to.
func parseHostAddress(to *netip.Addr, v string) bool {
	a, err := netip.ParseAddr(v)
	*to = a.Unmap()
	return err == nil && a.Zone() == "" && a.Unmap().IsGlobalUnicast()
}

// URLs returns the URLs of etcd's members.
func (c ClusterConfig) URLs() []string {
	scheme := "http://"
	if c.TLS {
		scheme = "https://"
	}
	var out []string
	for _, e := range c.Endpoints {
		out = append(out, scheme+e)
	}
	return out
}

// TLSConfig returns how etcd is spoken to; nil: without TLS.
func (c ClusterConfig) TLSConfig() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("certificates that sign etcd's: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates that sign etcd's: %s has none", c.CA)
		}
	}
	if c.Cert != "" {
		if _, err := c.certificate(); err != nil {
			return nil, err
		}
		// It is read again for each connection, since certificates are renewed while weave runs.
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.certificate()
		}
	}
	return out, nil
}

func (c ClusterConfig) certificate() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("this host's certificate for etcd: %w", err)
	}
	return &cert, nil
}

// Password returns the password of the user of etcd.
func (c ClusterConfig) Password() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password for etcd: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("password for etcd: %s is empty", c.PasswordFile)
	}
	return password, nil
}

// check returns an error for settings that contradict each other.
func (c ClusterConfig) check() error {
	switch {
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("cluster-cert, cluster-key: want both or neither")
	case !c.TLS && (c.CA != "" || c.Cert != ""):
		return errors.New("cluster-ca, cluster-cert: want --cluster etcds://..., which is over TLS")
	case (c.User == "") != (c.PasswordFile == ""):
		return errors.New("cluster-user, cluster-password-file: want both or neither")
	case c.Grace <= c.Lease:
		return fmt.Errorf("cluster-grace %s: want one that is longer than cluster-lease, %s", c.Grace, c.Lease)
	}
	return nil
}
