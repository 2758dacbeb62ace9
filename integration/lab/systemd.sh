#!/bin/bash
# SPDX-License-Identifier: Apache-2.0

# Runs systemd on a test host, as the first process of a pid namespace:
#
#   systemd.sh CGROUP      the directory, in each hierarchy, for its cgroups
#
# It starts the units that lab.target wants and none of systemd's own, such as getty, udev or the journal. All services log
# to /run/units.log. The cgroup hierarchies are those of version 1, one of them for systemd alone.
set -eu

inside() {
	set -eu
	mount --make-rslave /
	mount --make-rshared /
	mount -t proc proc /proc
	local hierarchies=(/sys/fs/cgroup/*/) name
	umount -l /sys/fs/cgroup
	mount -t tmpfs tmpfs /sys/fs/cgroup
	for name in "${hierarchies[@]}"; do
		name=$(basename "$name")
		mkdir "/sys/fs/cgroup/$name"
		case $name in
		unified) mount -t cgroup2 cgroup2 "/sys/fs/cgroup/$name" ;;
		systemd) mount -t cgroup -o none,name=systemd,xattr cgroup "/sys/fs/cgroup/$name" ;;
		*) mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" ;;
		esac
	done

	rm -rf /lib/systemd/system/*.wants /lib/systemd/system-generators/*
	mkdir -p /etc/systemd/system/service.d
	printf '[Service]\nStandardOutput=append:/run/units.log\nStandardError=inherit\n' >/etc/systemd/system/service.d/log.conf
	printf '[Unit]\nRequires=basic.target\n' >/etc/systemd/system/lab.target
	exec env container=lab SYSTEMD_PROC_CMDLINE='systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1' \
		/lib/systemd/systemd --system --unit=lab.target --log-target=console --show-status=0
}

for hierarchy in /sys/fs/cgroup/*/; do
	mkdir -p "$hierarchy$1"
	for file in cpuset.cpus cpuset.mems; do # these are empty in a new cgroup, and without them it accepts no process
		[ ! -e "$hierarchy$file" ] || cat "$hierarchy$file" >"$hierarchy$1/$file"
	done
	echo $$ >"$hierarchy$1/cgroup.procs"
done
exec unshare --mount --pid --cgroup --fork --kill-child bash -c "$(declare -f inside); inside"
