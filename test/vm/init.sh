#!/bin/busybox sh
# The machine's first process: what a test expects of a computer, then the
# programs, then the mark.
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/shm /dev/pts /sys/fs/cgroup
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs shm /dev/shm
ip link set lo up
ulimit -n 1048576 # thousands of connections, each with both its ends here
echo 1 >/proc/sys/kernel/panic_on_oops

exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw
modprobe -a crc32c_generic ip_vs || echo "no IPVS: $?"

export SYSTOLE_VM=1 SYSTOLE_CI=1 SYSTOLE_IPVS=1
status=0
# run DIRECTORY PROGRAM ARGUMENT...
run() {
	cd "$1"
	shift
	"$@"
	code=$?
	[ "$status" = 0 ] && status=$code
}
. /programs
echo "SYSTOLE-VM-EXIT $status"
poweroff -f
