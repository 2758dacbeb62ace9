#!/bin/bash
# SPDX-License-Identifier: Apache-2.0

# Runs the benchmarks of another revision and of this tree alternately, and prints the results of both side by side:
#
#   bench-compare.sh REVISION [BENCH [ROUNDS]]      BENCH: as for make bench; ROUNDS: how often each runs, default 1
#
# Each tree runs its own benchmarks with its own binaries. Needs root.
set -eu
cd "$(dirname "$0")/.."
revision=$1 bench=${2:-.} rounds=${3:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/before"
git archive "$revision" | tar -x -C "$work/before"
ln -s "$PWD" "$work/after"

# measure TREE BENCHMARK ROUND runs a benchmark of one of the trees.
measure() {
	echo "$2, $1" >&2
	(cd -P "$work/$1" && go test -run '^$' -bench "^$2\$" -benchtime 1x -timeout 30m ./integration/bench \
		-args -report "$work/$1-$2-$3.json") >"$work/log" || { cat "$work/log" >&2; exit 1; }
}

# Those of networks between hosts only where they are asked for.
others=none
[[ $bench == *Cluster* ]] || others=^BenchmarkCluster
for benchmark in $(go test -list "$bench" ./integration/bench | grep ^Benchmark | grep -v "$others"); do
	for ((round = 0; round < rounds; round++)); do
		if ((round % 2 == 0)); then trees=(before after); else trees=(after before); fi
		for tree in "${trees[@]}"; do measure "$tree" "$benchmark" "$round"; done
	done
done
cd integration/bench # here go test shows what the test prints
go test -run '^$' -args -compare "$work"
