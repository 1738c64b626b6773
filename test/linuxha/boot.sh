#!/bin/sh
# The first process of a machine that runs the real heartbeat: a pid, mount,
# uts and ipc namespace of its own. Arguments: the node's name and its directory.
set -eu
hostname "$1"
dir=$2
mount --bind "$dir/ha.d" /etc/ha.d
mount --bind "$dir/lib" /var/lib/heartbeat
mount --bind "$dir/log" /var/log
mount -t proc proc /proc
# ResourceManager reboots the machine when a stop script fails.
for p in /sbin/reboot /sbin/init /sbin/shutdown /sbin/halt /sbin/poweroff; do
	if [ -e "$p" ]; then
		mount --bind /bin/true "$(readlink -f "$p")"
	fi
done
mount --bind "$dir/run" /run # last: it hides dir
/usr/libexec/heartbeat/heartbeat >>/var/log/boot 2>&1
# Orphans come to us; the shell reaps them while it waits for sleep.
while :; do sleep 1; done
