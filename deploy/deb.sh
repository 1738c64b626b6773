#!/bin/sh
# Build the Debian package: deb.sh BINARY VERSION
set -eu
bin=$1
case $2 in v[0-9]*) ver=$(printf %s "${2#v}" | sed 's/-/+/g') ;; *) ver="0~$(printf %s "$2" | sed 's/-/+/g')" ;; esac
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D -m 755 "$bin" "$root/usr/bin/systole"
install -D -m 644 deploy/systole.service "$root/lib/systemd/system/systole.service"
install -D -m 644 control/config/systole.reference.yaml "$root/usr/share/doc/systole/systole.reference.yaml"
install -D -m 644 LICENSE "$root/usr/share/doc/systole/copyright"
install -D -m 644 README.md "$root/usr/share/doc/systole/README.md"
mkdir -p "$root/etc/systole" "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<EOF
Package: systole
Version: $ver
Architecture: $arch
Maintainer: The Systole authors
Section: net
Priority: optional
Description: load-balancing director: XDP forwarding, heartbeat, takeover
 Forwards packets for virtual IPs to real servers in DR mode with XDP, watches
 its peer with the Linux-HA heartbeat protocol, and takes over when it dies.
EOF
out="build/systole_${ver}_${arch}.deb"
dpkg-deb --root-owner-group --build "$root" "$out"
