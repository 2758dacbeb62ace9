#!/bin/bash
# SPDX-License-Identifier: Apache-2.0

# Writes what is published of the commit that is checked out into a new directory: for each architecture an archive of
# what `make install` installs below /usr/local, a bill of materials of each binary, and the checksums of all.
#
#   release.sh DIRECTORY [ARCH...]      ARCH: amd64, arm64; by default both
#
# Everything is made twice, in two places, the second time with an empty build cache, and must come out the same to the
# byte. Changes that are not committed are not in it. To install an archive:
#
#   tar -xzf ARCHIVE -C /usr/local --strip-components=1
#
# $RELEASE_CACHE is the second build cache where that need not be empty: the tests keep one of their own.
set -eu
cd "$(dirname "$0")/../.."
out=$(realpath -m "$1")
shift
[ $# != 0 ] || set -- amd64 arm64

umask 022
export LC_ALL=C TZ=UTC
# The compiler is the Dockerfile's. Of the user's own settings for builds only those count that say where modules come
# from.
GOPROXY=$(go env GOPROXY) GOSUMDB=$(go env GOSUMDB)
GOTOOLCHAIN=go$(sed -n 's/^FROM .*golang:\([0-9.]*\)-.*/\1/p' Dockerfile)
export GOPROXY GOSUMDB GOTOOLCHAIN GOENV=off GOFLAGS='' GOEXPERIMENT='' GOAMD64=v1 GOARM64=v8.0
version=$(git describe --tags --always)
commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
GOBIN=$work go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# build DIRECTORY ARCH... makes everything in DIRECTORY/out, from a tree of its own.
build() {
	local dir=$1 arch name
	shift
	mkdir -p "$dir/tree" "$dir/out"
	git archive "$commit" | tar -x -C "$dir/tree"
	for arch; do
		name=weave-$version-linux-$arch
		make --no-print-directory -C "$dir/tree" install ARCH="$arch" VERSION="$version" COMMIT="$commit" \
			BIN="$dir/$arch" DOCS="$dir/docs" DESTDIR="$dir/root" PREFIX=/usr/local >"$dir/log" ||
			{ cat "$dir/log"; exit 1; }
		mv "$dir/root/usr/local" "$dir/$name"
		tar -C "$dir" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
			-c "$name" | gzip -9n >"$dir/out/$name.tar.gz"
		for binary in weave nsproc; do
			"$work/cyclonedx-gomod" bin -json -std -noserial -notimestamp -version "$version" \
				-output "$dir/out/$name.$binary.cdx.json" "$dir/$arch/$binary" 2>"$dir/log" ||
				{ cat "$dir/log"; exit 1; }
		done
	done
	(cd "$dir/out" && sha256sum -- * >SHA256SUMS)
}

build "$work/first" "$@"
(GOCACHE=${RELEASE_CACHE:-$work/cache} && export GOCACHE && build "$work/second/elsewhere" "$@")
if ! diff -r "$work/first/out" "$work/second/elsewhere/out"; then
	echo "release.sh: two builds of $commit differ" >&2
	exit 1
fi
rm -rf "$out"
mkdir -p "$(dirname "$out")"
mv "$work/first/out" "$out"
ls -l "$out"
