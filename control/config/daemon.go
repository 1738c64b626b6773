package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
)

func (d *decoder) dataPlane(root *mapping, services bool) DataPlane {
	m := root.sub("dataplane")
	mode := read(m, "mode", "auto", oneOf([]string{"auto", "native", "generic", "ipvs"}, map[string]string{
		"xdp": "is the rule: use auto, or native, or generic", "skb": "is called generic here", "drv": "is called native here",
		"offload": "is not there yet: use native"}))
	first, several, set := d.nics(m)
	if !set && !mode.bad && services && mode.val != "ipvs" {
		m.missing("interface", "the NIC that the clients' packets come in by, such as interface: eth0")
	}
	dp := DataPlane{
		Interface: first, Interfaces: several,
		Mode:  mode.val,
		Pin:   read(m, "pin", "/sys/fs/bpf/systole", absolute).val,
		Flows: read(m, "flows", 1<<20, flows).val,
		Evict: read(m, "evict", false, boolean).val,
	}
	m.done()
	return dp
}

func flows(s scalar) (int, error) {
	n, err := number(1<<10, 1<<24)(s)
	if err != nil {
		return 0, err
	}
	if n&(n-1) != 0 {
		up := 1 << 10
		for up < n {
			up <<= 1
		}
		return 0, fmt.Errorf("%d is not a power of two: write %d or %d", n, up>>1, up)
	}
	return n, nil
}

func (d *decoder) metrics(m *mapping) Metrics {
	v := Metrics{Listen: read(m, "listen", "", listen).val}
	m.done()
	return v
}

var listenHost = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// listen is "host:port" to listen on; no host means every address.
func listen(s scalar) (string, error) {
	v, err := text(s)
	if err != nil {
		return "", err
	}
	host, prt, err := net.SplitHostPort(v)
	if err != nil {
		return "", fmt.Errorf("%q is not host:port: write one such as 127.0.0.1:9101", v)
	}
	if n, err := strconv.Atoi(prt); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("the port %q is not a number from 1 to 65535", prt)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !listenHost.MatchString(host) {
		return "", fmt.Errorf("%q is not a host: write one such as 127.0.0.1", host)
	}
	return v, nil
}

func (d *decoder) control(m *mapping) Control {
	v := Control{Socket: read(m, "socket", "/run/systole/systole.sock", socketPath).val}
	m.done()
	return v
}

// socketPath fits struct sockaddr_un, whose path has 108 bytes with its zero.
func socketPath(s scalar) (string, error) {
	v, err := absolute(s)
	if err == nil && len(v) > 107 {
		err = fmt.Errorf("the path has %d bytes: a socket's has at most 107", len(v))
	}
	return v, err
}
