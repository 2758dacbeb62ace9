#!/bin/sh
# SPDX-License-Identifier: Apache-2.0

# Puts the tools of legacy iptables, with all that they load, into the managed plugin's root file system:
#
#   rootfs.sh ROOTFS ARCH CACHE       ARCH: amd64 or arm64
#
# They come from Debian's packages, by an apt of its own below CACHE: the machine's architectures, lists and packages
# stay as they are, it needs no root, and ARCH need not be the machine's. A Debian mirror can be given as DEBIAN_MIRROR.
# What was downloaded is used again; remove CACHE for newer packages.
set -eu
rootfs=$1 arch=$2 cache=$3
suite=trixie
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
cache=$cache/$suite-$arch
packages='iptables libxtables12 libip4tc2 libip6tc2 libmnl0 libnetfilter-conntrack3 libnfnetlink0 libc6'
case $arch in
amd64) triplet=x86_64-linux-gnu loader=lib64/ld-linux-x86-64.so.2 ;;
arm64) triplet=aarch64-linux-gnu loader=lib/ld-linux-aarch64.so.1 ;;
*) echo "rootfs.sh: architecture $arch: want amd64 or arm64" >&2 && exit 1 ;;
esac

download() {
	mkdir -p "$cache/lists/partial" "$cache/archives/partial" "$cache/etc" "$cache/debs"
	: >"$cache/status"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$cache/etc/sources.list"
	proxy=
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	cat >"$cache/apt.conf" <<-CONF
		APT::Architecture "$arch";
		APT::Architectures { "$arch"; };
		Acquire::Languages "none";
		Acquire::http::Proxy "$proxy";
		APT::Sandbox::User "";
		Dir::State "$cache";
		Dir::State::status "$cache/status";
		Dir::Cache "$cache";
		Dir::Etc::sourcelist "$cache/etc/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::main "/dev/null";
		Dir::Etc::parts "/dev/null";
	CONF
	export APT_CONFIG="$cache/apt.conf"
	apt-get update -qq
	(cd "$cache/debs" && apt-get download -qq $packages)
	mkdir "$cache/new"
	for deb in "$cache"/debs/*.deb; do
		dpkg-deb -x "$deb" "$cache/new"
	done
	mv "$cache/new" "$cache/root"
	rm -rf "$cache/lists" "$cache/archives" "$cache/debs" "$cache"/*.bin
}

mkdir -p "$cache" "$rootfs"
cache=$(cd "$cache" && pwd)
rootfs=$(cd "$rootfs" && pwd)
if [ ! -d "$cache/root" ]; then
	rm -rf "$cache/new"
	download
fi

lib=usr/lib/$triplet
mkdir -p "$rootfs/$lib/xtables" "$rootfs/usr/sbin" "$rootfs/${loader%/*}"
cd "$cache/root"
for library in libxtables.so.12 libip4tc.so.2 libip6tc.so.2 libmnl.so.0 libnetfilter_conntrack.so.3 \
	libnfnetlink.so.0 libm.so.6 libc.so.6; do
	cp -L "$lib/$library" "$rootfs/$lib/"
done
cp "$lib"/xtables/libxt_*.so "$lib"/xtables/libipt_*.so "$lib"/xtables/libip6t_*.so "$rootfs/$lib/xtables/"
cp -L "usr/$loader" "$rootfs/$loader"
cp usr/sbin/xtables-legacy-multi "$rootfs/usr/sbin/"
for name in iptables-legacy-save iptables-legacy-restore ip6tables-legacy-save ip6tables-legacy-restore; do
	ln -sf xtables-legacy-multi "$rootfs/usr/sbin/$name"
done
