#!/bin/bash
# SPDX-License-Identifier: Apache-2.0

# Installs those of the Debian packages that are missing:
#
#   install.sh [PACKAGE...]      default: all packages that `make test` needs
set -eu
if [ $# = 0 ]; then
	set -- docker.io docker-compose docker-registry iptables nftables iproute2 iputils-ping procps busybox-static curl \
		etcd-server etcd-client debootstrap qemu-user-static gcc libc6-dev git systemd man-db zsh fish tcpdump prometheus \
		chromium
fi

missing=()
for package in "$@"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} = 0 ] && command -v docker >/dev/null && exit 0

if [ "$(id -u)" != 0 ]; then
	echo "install.sh: missing, to be installed as root: ${missing[*]:-docker-cli}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq </dev/null
# It removes no package: where docker.io would replace a Docker of another origin, the installation fails.
install() { apt-get install -y -qq --no-install-recommends --no-remove "$@" </dev/null; }
[ ${#missing[@]} = 0 ] || install "${missing[@]}"
# Up to Debian 12 the docker CLI is in docker.io, since then in a package of its own.
command -v docker >/dev/null || install docker-cli
