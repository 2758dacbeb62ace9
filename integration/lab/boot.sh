#!/bin/bash
# Turns fresh namespaces into a host, as its first process:
#
#   unshare --mount --net --pid --uts --ipc --fork --kill-child boot.sh NAME LOWER DIR BIN COMMAND...
#
# The host's root is LOWER (a root directory; / is this machine's own) under an overlay that lasts until it ends, so
# what a host writes is gone with it, except for its disk, which is in DIR: /var/lib/docker and /var/lib/weave.
# BIN, a directory, is seen as /opt/weave. COMMAND then runs as the host's init.
#
# Why so: `/` shared, as systemd has it, or a mount made later is not seen by a slave; a fresh tmpfs on /run for each
# boot; pivot_root rather than chroot, in which the engine can't unpack images; the overlay's upper directory on a
# tmpfs, since it may not lie below the lower one.
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
