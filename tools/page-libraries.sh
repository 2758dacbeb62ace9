#!/bin/sh
# SPDX-License-Identifier: Apache-2.0

# Puts the libraries of the web page into plugin/page/files/lib (make page-libraries): files of the packages that npm has,
# as they are, with their licenses. The packages are compared with their checksums, so the files are the same each time.
# Another version has another checksum: `npm pack NAME@VERSION`, then sha256sum.
set -eu
cd "$(dirname "$0")/.."
to=$PWD/plugin/page/files/lib
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT

# take NAME VERSION SHA256 FILE... takes files of a package's folder dist.
take() {
	name=$1 version=$2 sum=$3
	shift 3
	(cd "$packages" && npm pack --silent "$name@$version" >/dev/null)
	package=$packages/$name-$version.tgz
	echo "$sum  $package" | sha256sum --check --quiet
	for file in "$@"; do
		tar -xOzf "$package" "package/dist/$file" >"$to/$file"
	done
	tar -xOzf "$package" package/LICENSE >"$to/$name-LICENSE"
}

rm -rf "$to"
mkdir -p "$to"
take cytoscape 3.34.4 0d02363d99d805ce8d91fdecab7b2a8cb91ee280d67f309ce44c161d117b4679 cytoscape.esm.min.mjs
take uplot 1.6.32 4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d uPlot.iife.min.js uPlot.min.css
