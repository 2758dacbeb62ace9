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

// An iptables command waits up to lockWait for the lock that all of them share. A process that it started may hold its
// output open even when it is killed: the output is given up killGrace after the kill.
const (
	lockWait  = commandLimit / 2
	killGrace = time.Second
)

// legacyKinds are the chains of iptables-legacy that weave's rules belong in, by table and name.
var legacyKinds = map[[2]string]kind{
	{"filter", "FORWARD"}: forwarding,
	{"raw", "PREROUTING"}: prerouting,
}

// legacyNames is the file with the names of the legacy tables that the kernel has in this network namespace.
var legacyNames = map[family]string{
	ipv4: "/proc/thread-self/net/ip_tables_names",
	ipv6: "/proc/thread-self/net/ip6_tables_names",
}

// legacyTables returns the names of the legacy tables that the kernel has.
func legacyTables(v family) []string {
	names, err := os.ReadFile(legacyNames[v])
	if err != nil {
		return nil // without the kernel's module there is no such file
	}
	return strings.Fields(string(names))
}

// legacyLives reports whether the kernel has a legacy table that weave's rules belong in.
func legacyLives(v family) bool {
	tables := legacyTables(v)
	for where := range legacyKinds {
		if slices.Contains(tables, where[0]) {
			return true
		}
	}
	return false
}

// legacy works by the commands of iptables-legacy.
type legacy struct {
	family        family
	save, restore string // paths of the commands; empty: this machine has none
}

// findLegacy finds iptables-legacy or, where that has no name of its own, plain iptables.
func findLegacy(v family) *legacy {
	base := map[family]string{ipv4: "iptables", ipv6: "ip6tables"}[v]
	for _, name := range []string{base + "-legacy", base} {
		save, err := exec.LookPath(name + "-save")
		restore, err2 := exec.LookPath(name + "-restore")
		if err == nil && err2 == nil && (name != base || isLegacy(save)) {
			return &legacy{v, save, restore}
		}
	}
	return &legacy{family: v}
}

// isLegacy reports whether an iptables command is of the legacy kind. The other kind says so with its version.
func isLegacy(command string) bool {
	out, err := execute(context.Background(), "", command, "--version")
	return err == nil && !strings.Contains(out, "nf_tables")
}

// look lists the chains that weave's rules belong in.
func (l *legacy) look(ctx context.Context) ([]chain, error) {
	if !legacyLives(l.family) {
		return nil, nil
	}
	all, err := l.list(ctx)
	if err != nil {
		return nil, err
	}
	return legacyChains(all), nil
}

// list lists all chains if the kernel has any: a command would make it create its tables.
func (l *legacy) list(ctx context.Context) ([]chain, error) {
	switch {
	case len(legacyTables(l.family)) == 0:
		return nil, nil
	case l.save == "":
		return nil, fmt.Errorf("the legacy %s tables of iptables, which this kernel has, %w without the command "+
			"iptables-legacy: install iptables, or make sure that they let frames pass", l.family, errUnusable)
	}
	out, err := execute(ctx, "", l.save, "-c")
	if err != nil {
		return nil, fmt.Errorf("list the legacy %s tables of iptables: %w", l.family, err)
	}
	return parseSaved(l.family, out), nil
}

// parseSaved reads what iptables-save -c writes: for each table a line *TABLE, then a line :CHAIN POLICY [COUNT] for
// each chain, POLICY being - for one that only other chains call, and a line [COUNT] -A CHAIN RULE for each rule.
func parseSaved(v family, saved string) []chain {
	var chains []chain
	begin := 0 // of the table's chains
	table := ""
	for line := range strings.Lines(saved) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table, begin = line[1:], len(chains)
		case strings.HasPrefix(line, ":"):
			name, rest, _ := strings.Cut(line[1:], " ")
			c := chain{backend: "legacy", family: v, table: table, name: name}
			if target, n, _ := strings.Cut(rest, " "); target != "-" {
				c.policy = &policy{drops: target == "DROP", count: parseCount(n)}
			}
			chains = append(chains, c)
		case strings.HasPrefix(line, "["):
			n, rule, _ := strings.Cut(line, " ")
			args := splitRule(rule)
			if len(args) < 3 || args[0] != "-A" {
				continue
			}
			i := slices.IndexFunc(chains[begin:], func(c chain) bool { return c.name == args[1] })
			if i < 0 {
				continue
			}
			c := &chains[begin+i]
			c.rules, c.lines = append(c.rules, args[2:]), append(c.lines, rule)
			c.counts = append(c.counts, parseCount(n))
		}
	}
	return chains
}

// parseCount reads [PACKETS:BYTES]; nil: it is something else.
func parseCount(text string) *count {
	inner, open := strings.CutPrefix(text, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	packets, bytes, _ := strings.Cut(inner, ":")
	p, err := strconv.ParseUint(packets, 10, 64)
	b, err2 := strconv.ParseUint(bytes, 10, 64)
	if !open || !closed || err != nil || err2 != nil {
		return nil
	}
	return &count{p, b}
}

// legacyChains returns those of the chains that weave's rules belong in.
func legacyChains(all []chain) (chains []chain) {
	for _, c := range all {
		k, ok := legacyKinds[[2]string{c.table, c.name}]
		if !ok {
			continue
		}
		c.kind = k
		for _, door := range dockersDoors {
			isDoor := func(other chain) bool { return other.table == c.table && other.name == door }
			if slices.ContainsFunc(all, isDoor) {
				c.doors = append(c.doors, door)
			}
		}
		chains = append(chains, c)
	}
	return chains
}

func (l *legacy) write(ctx context.Context, c chain, e edit) error {
	input := "*" + c.table + "\n" + strings.Join(legacyCommands(c, e), "\n") + "\nCOMMIT\n"
	_, err := execute(ctx, input, l.restore, "--noflush", "--wait", strconv.Itoa(int(lockWait.Seconds())))
	var refused *exec.ExitError
	if errors.As(err, &refused) {
		err = fmt.Errorf("%w: %w", errChanged, err)
	}
	if err != nil {
		return fmt.Errorf("write rules of %s: %w", c, err)
	}
	return nil
}

// legacyCommands returns an edit as iptables-restore reads it. Rules are removed by their text, not by their number:
// somebody else may insert one meanwhile.
func legacyCommands(c chain, e edit) []string {
	number := e.before + 1
	var commands []string
	for _, i := range e.remove {
		commands = append(commands, "-D"+strings.TrimPrefix(c.lines[i], "-A"))
		if i < e.before {
			number--
		}
	}
	for _, r := range slices.Backward(e.add) { // at the same number, so the last one inserted comes first
		commands = append(commands, fmt.Sprintf("-I %s %d %s", c.name, number, strings.Join(r.args(), " ")))
	}
	return commands
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

// splitRule splits a line of iptables-save into its arguments. A string (a comment, a log prefix) is in double quotes,
// with a backslash before each quote or backslash inside.
func splitRule(line string) []string {
	var args []string
	var arg strings.Builder
	quoted, started := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			arg.WriteByte(line[i])
			started = true
		case c == '"':
			quoted = !quoted
			started = true
		case c == ' ' && !quoted:
			if started {
				args = append(args, arg.String())
			}
			arg.Reset()
			started = false
		default:
			arg.WriteByte(c)
			started = true
		}
	}
	if started {
		args = append(args, arg.String())
	}
	return args
}
