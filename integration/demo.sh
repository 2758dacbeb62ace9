#!/bin/bash
# SPDX-License-Identifier: Apache-2.0

# Shows step by step what weave does, on this machine (make demo): a weave network, two containers on it that reach each
# other by name, the listing, a published port. Needs root. If no Docker runs here, it starts one in namespaces of its own.
# It removes all that it has made, also when it fails or is interrupted.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

# uninterrupted COMMAND... is like run, but Ctrl-C does not reach the command, so that it is complete when the script cleans
# up.
uninterrupted() { printf '$ %s\n' "$*"; setsid --wait "$@"; }

# poll COMMAND... runs a command until it succeeds, for at most ten seconds.
poll() {
	local deadline=$((SECONDS + 10))
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || { "$@"; return; }
		sleep 0.1
	done
}

if [ "$(id -u)" != 0 ]; then
	echo "demo: needs root: run it as root, for example sudo make demo" >&2
	exit 1
fi

# Outside: prepare. Then run the rest here if Docker answers, or on a host with a Docker of its own.
if [ "${1:-}" != inside ]; then
	say "Installing what is missing, building weave"
	packages=(iptables iproute2 busybox-static curl)
	docker version >/dev/null 2>&1 || packages+=(docker.io)
	run integration/install.sh "${packages[@]}"
	run make --no-print-directory build
	if docker version >/dev/null 2>&1; then
		exec "$0" inside
	fi
	say "No Docker answers: starting one in namespaces of its own, for this demo only"
	dir=$(mktemp -d /var/tmp/weave-demo-XXXXXX)
	cgroup=${dir##*/}
	cleanup() {
		poll cgroups_gone
		rm -rf "$dir"
	}
	cgroups_gone() {
		find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + || true
		[ -z "$(find /sys/fs/cgroup -type d -name "$cgroup")" ]
	}
	trap cleanup EXIT
	trap 'exit 130' INT TERM
	unshare --mount --net --pid --uts --ipc --fork --kill-child integration/lab/boot.sh \
		demo / "$dir" "$PWD" /opt/weave/integration/demo.sh inside "$cgroup"
	exit
fi

# Inside: run the demo. The list has the commands that undo its steps, to be run at the end in reverse order.
undo=()
cleanup() {
	status=$?
	trap '' INT TERM
	if [ $status != 0 ] && [ $status != 130 ]; then
		for log in "$dir"/*.log; do
			[ ! -e "$log" ] || { say "The end of ${log##*/}"; tail -n 20 "$log"; }
		done
	fi
	say "Cleaning up"
	for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
		printf '$ %s\n' "${undo[i]}"
		eval "${undo[i]}" >/dev/null || status=1
	done
	exit $status
}
dir=$(mktemp -d)
undo+=("rm -rf $dir")
trap cleanup EXIT
trap 'exit 130' INT TERM

# background LOG COMMAND... runs a command that Ctrl-C does not reach, and adds the command that ends it to the list.
background() {
	local log=$1
	shift
	printf '$ %s &\n' "$*"
	setsid "$@" >"$log" 2>&1 </dev/null &
	undo+=("kill $!; wait $! || true # ${1##*/}")
}

if [ -n "${2:-}" ]; then
	background "$dir/docker.log" dockerd --cgroup-parent "/$2" --exec-opt native.cgroupdriver=cgroupfs
	poll docker version
fi
docker version --format 'Docker Engine {{.Server.Version}}'

say "An image with busybox and a page"
mkdir -p "$dir"/image/{bin,etc,www}
cp /bin/busybox "$dir/image/bin/"
for applet in httpd ping sh sleep; do ln -s busybox "$dir/image/bin/$applet"; done
echo "Hello from a container on a weave network." >"$dir/image/www/index.html"
run sh -c "tar -C $dir/image -c . | docker import - weave-demo"
undo+=("docker image rm weave-demo")

socket=/run/docker/plugins/weave.sock
if [ -S $socket ] && bin/weave status >/dev/null 2>&1; then
	say "The plugin runs already"
else
	say "Starting the plugin"
	background "$dir/plugin.log" bin/weave serve --state "$dir/weave.db" --runtime-dir "$dir"
	poll bin/weave status
fi

say "A network and two containers on it"
for name in demo demo-web demo-client; do
	if docker inspect "$name" >/dev/null 2>&1; then
		echo "demo: Docker already has something called $name; remove it or rename it first" >&2
		exit 1
	fi
done
undo+=("docker network rm demo")
uninterrupted docker network create -d weave demo
undo+=("docker rm -f demo-web demo-client") # before they are made, since a container remains when its start fails
uninterrupted docker run -d --network demo --name demo-web -p 80 weave-demo httpd -f -h /www
uninterrupted docker run -d --network demo --name demo-client weave-demo sleep 1000

say "They reach each other by name"
run docker exec demo-client ping -c 2 demo-web
run docker exec demo-web ping -c 2 demo-client

say "What weave tracks of them, and what the kernel has"
run bin/weave ps
run bin/weave ps --live

say "The page, over the published port"
port=$(docker port demo-web 80/tcp | head -n 1)
poll curl -sf "http://127.0.0.1:${port##*:}/"
run curl -s "http://127.0.0.1:${port##*:}/"

say "That's it."
