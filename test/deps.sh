#!/bin/sh
# What the tests need besides Go: real servers and clients. On Debian, as root,
# it is installed; elsewhere it is named.
set -eu

need="" # Debian packages
want() { # want COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || need="$need $2"
}
PATH="$PATH:/usr/sbin:/sbin"
want nginx nginx-light
want dnsmasq dnsmasq-base
want curl curl
want dig dnsutils
want ip iproute2
want nft nftables
want tcpdump tcpdump # reads what systole capture writes
want ps procps # heartbeat's scripts
want nsenter util-linux
want nft nftables
want cl_status heartbeat # Linux-HA, for test/linuxha
want qemu-system-x86_64 qemu-system-x86 # for test/vm, with the next three
want busybox busybox-static
want cpio cpio
want depmod kmod
want keepalived keepalived # to compare with, in test/failover
[ -e /etc/ha.d/resource.d/IPaddr2 ] && [ -e /usr/lib/ocf/resource.d/heartbeat/IPaddr2 ] || need="$need resource-agents"
[ -z "$need" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing what the tests need:$need"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	# Installed to be started by the tests, in namespaces; never as a service.
	printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.d.$$
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		install -m 755 /tmp/policy-rc.d.$$ /usr/sbin/policy-rc.d
		trap 'rm -f /usr/sbin/policy-rc.d /tmp/policy-rc.d.$$' EXIT
	fi
	# shellcheck disable=SC2086
	apt-get install -y -qq --no-install-recommends $need >/dev/null
	# Nor at the next boot. Without an ha.cf heartbeat would only fail.
	case "$need" in
	*" heartbeat"*) systemctl disable heartbeat.service logd.service >/dev/null 2>&1 || true ;;
	esac
	case "$need" in
	*" keepalived"*) systemctl disable keepalived.service >/dev/null 2>&1 || true ;;
	esac
	exit 0
fi
echo "the tests need these packages:$need" >&2
echo "install them, e.g.: sudo apt-get install$need" >&2
[ -z "${SYSTOLE_CI:-}" ] # fatal where the tests must run
