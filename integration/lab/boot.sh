#!/bin/bash
# SPDX-License-Identifier: Apache-2.0

# Turns fresh namespaces into a host, as its first process:
#
#   unshare --mount --net --pid --uts --ipc --fork --kill-child boot.sh NAME LOWER DIR BIN COMMAND...
#
# The host's root is an overlay over LOWER, a root directory (/ is this machine's own). The overlay ends with the host, and
# with it all that the host has written, except for its disk in DIR: /var/lib/docker and /var/lib/weave. The directory
# BIN is mounted at /opt/weave. COMMAND then runs as the host's init.
#
# The reasons for some details:
# - / is shared, as systemd makes it, so that slave mounts get the mounts that are made later.
# - /run is a new tmpfs with each boot.
# - It is pivot_root and not chroot, because Docker can't unpack images in a chroot.
# - The overlay's upper directory is on a tmpfs, because it must not be below the lower one.
set -eu
name=$1 lower=$2 dir=$3 bin=$4
shift 4

mount --make-rprivate /
mkdir -p "$dir"/{boot,docker,weave}
mount -t tmpfs tmpfs "$dir/boot"
mkdir "$dir"/boot/{upper,work,root}
root=$dir/boot/root
mount -t overlay -o "lowerdir=$lower,upperdir=$dir/boot/upper,workdir=$dir/boot/work" overlay "$root"

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root"/run/{docker/plugins,lock} "$root"/var/lib/{docker,weave} "$root"/{etc/docker,opt/weave,.old}
mount -t tmpfs tmpfs "$root/etc/docker"
mount --bind "$dir/docker" "$root/var/lib/docker"
mount --bind "$dir/weave" "$root/var/lib/weave"
mount --bind "$bin" "$root/opt/weave"

cd "$root"
pivot_root . .old
umount -l /.old
mount --make-rshared /
hostname "$name"
ip link set lo up
exec "$@"
