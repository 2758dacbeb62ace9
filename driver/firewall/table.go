// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The back ends of iptables. A kernel can have rules of both, and a packet then passes both.
const (
	nft    = "nft"
	legacy = "legacy"
)

// An iptables command waits up to lockWait for the lock that all of them share, and is killed after commandLimit. A
// process that it started may hold its output open even then: the output is given up killGrace after the kill.
const (
	lockWait     = 5 * time.Second
	commandLimit = lockWait + 5*time.Second
	killGrace    = time.Second
)

// tableName is the table of the FORWARD chain that weave writes.
const tableName = "filter"

// table is the table filter of one back end and one address family.
type table struct {
	backend string
	ipv6    bool
	list    string // path of iptables
	restore string // path of iptables-restore

	// Guarded by Firewall.working.
	readable bool // it could be listed at least once
	warned   bool // it was logged that it can't be used
}

// view is what a look at a table found.
type view struct {
	table  *table
	chain  []string // FORWARD, as iptables -S lists it
	docker bool     // it holds Docker's chains
	err    error    // why it could not be listed
}

// findTables returns the tables that this machine has commands for, IPv4 first, and the back end of its plain iptables.
func findTables() (tables []*table, system string, err error) {
	if system, err = systemBackend(); err != nil {
		return nil, "", err
	}
	for _, ipv6 := range []bool{false, true} {
		for _, backend := range []string{nft, legacy} {
			t, err := findTable(backend, ipv6, backend == system)
			switch {
			case err == nil:
				tables = append(tables, t)
			case !errors.Is(err, exec.ErrNotFound):
				return nil, "", err
			}
		}
	}
	if len(tables) == 0 || tables[0].ipv6 {
		return nil, "", fmt.Errorf(
			"look for iptables-nft, iptables-legacy and iptables: %w; install the package iptables", exec.ErrNotFound)
	}
	if system == "" {
		system = tables[0].backend
	}
	return tables, system, nil
}

// findTable finds the commands for one table: iptables-BACKEND or, where that is missing and BACKEND is the system's,
// plain iptables.
func findTable(backend string, ipv6, system bool) (*table, error) {
	base := "iptables"
	if ipv6 {
		base = "ip6tables"
	}
	name := base + "-" + backend
	list, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) && system {
		name = base
		list, err = exec.LookPath(name)
	}
	if err != nil {
		return nil, err
	}
	restore, err := exec.LookPath(name + "-restore")
	if err != nil {
		return nil, err
	}
	return &table{backend: backend, ipv6: ipv6, list: list, restore: restore}, nil
}

// systemBackend returns the back end of plain iptables, which says it with its version; empty if there is no such
// command.
func systemBackend() (string, error) {
	out, err := execute(context.Background(), "", "iptables", "--version")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("get the version of iptables: %w", err)
	case strings.Contains(out, "nf_tables"):
		return nft, nil
	}
	return legacy, nil
}

func (t *table) String() string {
	if t.ipv6 {
		return t.backend + " IPv6"
	}
	return t.backend + " IPv4"
}

// look lists the chain. It never makes the kernel create a table: listing with nft doesn't, listing with legacy does,
// so there it first looks whether the kernel has the table.
func (t *table) look(ctx context.Context) view {
	v := view{table: t}
	if t.backend == legacy && !legacyTable(t.ipv6) {
		return v
	}
	if v.chain, v.err = t.rules(ctx, chainName); v.err != nil {
		return v
	}
	t.readable = true
	if v.docker = jumpsToDocker(v.chain); v.docker {
		return v
	}
	// FORWARD may have been flushed, which leaves Docker's chains.
	all, err := t.rules(ctx)
	v.err = err
	v.docker = slices.ContainsFunc(all, func(line string) bool {
		chain, ok := strings.CutPrefix(line, "-N ")
		return ok && slices.Contains(dockerChains, chain)
	})
	return v
}

// rules lists a chain or, if none is named, all of them: a line for each chain (-P, -N) and for each rule (-A).
func (t *table) rules(ctx context.Context, chain ...string) ([]string, error) {
	args := append([]string{"--wait", seconds(lockWait), "-t", tableName, "-S"}, chain...)
	out, err := execute(ctx, "", t.list, args...)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n"), nil
}

// write runs the commands as one transaction: all of them or none. An *exec.ExitError means that iptables refused them,
// perhaps because somebody changed the chain since it was listed.
func (t *table) write(ctx context.Context, commands []string) error {
	input := "*" + tableName + "\n" + strings.Join(commands, "\n") + "\nCOMMIT\n"
	if _, err := execute(ctx, input, t.restore, "--noflush", "--wait", seconds(lockWait)); err != nil {
		return fmt.Errorf("write %s rules of %s: %w", chainName, t, err)
	}
	return nil
}

// execute runs a command, no longer than commandLimit, and returns its output. An error contains what the command wrote
// to its error output.
func execute(ctx context.Context, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = killGrace
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		err = ctx.Err() // rather than "killed"
	}
	if message := bytes.TrimSpace(stderr.Bytes()); len(message) > 0 {
		err = fmt.Errorf("%w: %s", err, message)
	}
	return "", err
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// legacyTable reports whether the kernel has the legacy table filter in this network namespace.
func legacyTable(ipv6 bool) bool {
	path := "/proc/self/net/ip_tables_names"
	if ipv6 {
		path = "/proc/self/net/ip6_tables_names"
	}
	names, err := os.ReadFile(path)
	// Without the kernel's module there is no such file.
	return err == nil && slices.Contains(strings.Fields(string(names)), tableName)
}
