#!/bin/bash
# SPDX-License-Identifier: Apache-2.0

# Puts the tests of docker-compose, as Debian 12's source package has them, into DIR:
#
#   compose-tests.sh DIR
#
# This is version 1.29, the last one in Python. Its tests work with any Docker that $DOCKER_HOST names.
set -eu
dir=$1
[ -d "$dir/tests" ] && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"
cat >"$work/sources.list" <<-END
	deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
END
apt() {
	(cd "$work" && apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root "$@" </dev/null)
}
apt update
apt source --download-only docker-compose
mkdir "$work/tree"
tar -xf "$work"/docker-compose_*.orig.tar.* -C "$work/tree" --strip-components=1
mkdir -p "$dir"
mv "$work/tree/tests" "$dir/"
