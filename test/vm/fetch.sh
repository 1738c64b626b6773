#!/bin/sh
# Unpacks Debian's cloud kernel of the series $1 (6.1 if not given) and the
# tools that run beside it into the user's cache, for the virtual machine of
# test/vm. Nothing is installed. What is there already stays as it is: remove
# the directory to have a newer kernel.
set -eu

series=${1:-6.1}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/systole/vm
case "$series" in
6.1) meta=linux-image-cloud-amd64 ;;
*) meta=linux-image-$series-cloud-amd64 ;;
esac
[ -e "$cache/$series" ] && [ -e "$cache/tools" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(dpkg --print-architecture)" != amd64 ]; then
	echo "the tests in a virtual machine need Debian on amd64: its packages are the kernel" >&2
	[ -z "${SYSTOLE_CI:-}" ]
	exit
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# kernel is the package that the meta-package means today.
kernel() {
	apt-cache depends "$meta" 2>/dev/null | sed -n "s/^ *Depends: \(linux-image-$series\..*\)$/\1/p" | head -n 1
}

# fetch DIRECTORY PACKAGE...: downloads packages into it.
fetch() {
	dir=$1
	shift
	mkdir "$dir"
	(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$@")
}

# place FROM TO: another run may have been faster.
place() { mv -T "$work/$1" "$cache/$2" 2>/dev/null || [ -e "$cache/$2" ]; }

if [ -z "$(kernel)" ] && [ "$(id -u)" = 0 ]; then
	apt-get update -qq
fi
if [ -z "$(kernel)" ]; then
	echo "apt knows no package $meta with a kernel $series: run apt-get update, on Debian 12" >&2
	[ -z "${SYSTOLE_CI:-}" ]
	exit
fi

if [ ! -e "$cache/$series" ]; then
	echo "fetching $(kernel) for the tests in a virtual machine"
	fetch "$work/debs" "$(kernel)"
	mkdir "$work/kernel"
	dpkg-deb --fsys-tarfile "$work"/debs/*.deb | tar -x -C "$work/kernel" --wildcards \
		'./boot/vmlinuz-*' './lib/modules/*/modules.*' './lib/modules/*/kernel/net/*' \
		'./lib/modules/*/kernel/drivers/net/*' './lib/modules/*/kernel/lib/*' './lib/modules/*/kernel/crypto/*' \
		'./lib/modules/*/kernel/arch/*'
	find "$work/kernel" -name '*.ko.xz' -exec xz -d {} +
	release=$(ls "$work/kernel/lib/modules")
	PATH="$PATH:/usr/sbin:/sbin" depmod -b "$work/kernel" "$release"
	basename "$work"/debs/*.deb .deb >"$work/kernel/package"
	place kernel "$series"
	rm -r "$work/debs"
fi
if [ ! -e "$cache/tools" ]; then
	fetch "$work/debs" ipvsadm libnl-3-200 libnl-genl-3-200 libpopt0 libc6
	mkdir "$work/tools"
	for deb in "$work"/debs/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/tools" --exclude ./usr/share --exclude ./etc --exclude '*/gconv/*'
	done
	place tools tools
fi
