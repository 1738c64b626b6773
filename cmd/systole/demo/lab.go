package demo

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"systole/control/realserver"
	"systole/test/netlab"
	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

// The tutorial's network.
var (
	vip       = netip.MustParseAddr("192.168.145.101")
	addresses = []struct {
		name string
		addr netip.Addr
	}{
		{"client", netip.MustParseAddr("192.168.145.1")},
		{"node1", netip.MustParseAddr("192.168.145.10")},
		{"node2", netip.MustParseAddr("192.168.145.11")},
		{"server1", netip.MustParseAddr("192.168.145.200")},
		{"server2", netip.MustParseAddr("192.168.145.201")},
	}
)

const (
	siteName = "www.a.com"
	answer1  = "web1 -- real-server-1"
	answer2  = "web2 -- real-server-2"
)

// demo is the lab with all that runs in it.
type demo struct {
	o            Options
	lab          *netlab.Lab
	client       *netlab.Host
	node1, node2 *node
	web1, web2   *standin.Web
	dns1, dns2   *standin.DNS
	settings     settings
}

// build makes the lab: hosts, cables, servers, config files; no daemon yet.
func build(o Options) (_ *demo, err error) {
	lab, err := netlab.New(o.Prefix)
	if err != nil {
		return nil, err
	}
	d := &demo{o: o, lab: lab, settings: settings{AutoFailback: true}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	hosts := make(map[string]*netlab.Host)
	for _, a := range addresses {
		if hosts[a.name], err = lab.AddHost(a.name, netip.PrefixFrom(a.addr, 24)); err != nil {
			return nil, err
		}
	}
	d.client = hosts["client"]
	if err := d.client.DisableTxChecksum(); err != nil {
		return nil, err
	}
	if d.web1, d.dns1, err = startServer(hosts["server1"], answer1); err != nil {
		return nil, err
	}
	if d.web2, d.dns2, err = startServer(hosts["server2"], answer2); err != nil {
		return nil, err
	}
	key := fmt.Appendf(nil, "auth 1\n1 sha1 %s\n", rand.Text())
	if err := os.WriteFile(filepath.Join(lab.Dir(), "authkeys"), key, 0o600); err != nil {
		return nil, err
	}
	if d.node1, err = d.newNode(hosts["node1"]); err != nil {
		return nil, err
	}
	if d.node2, err = d.newNode(hosts["node2"]); err != nil {
		return nil, err
	}
	return d, d.writeConfigs()
}

// startServer makes a host a real server of the tutorial.
func startServer(h *netlab.Host, text string) (*standin.Web, *standin.DNS, error) {
	err := h.Do(func() error {
		_, err := realserver.Setup(vip, realserver.Loopback)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("real-server setup on %s: %w", h.Name, err)
	}
	web := standin.NewWeb(h, siteName, text)
	if err := web.Start(); err != nil {
		return nil, nil, err
	}
	dns, err := standin.StartDNS(h, siteName, vip)
	if err != nil {
		web.Stop()
		return nil, nil, err
	}
	return web, dns, nil
}

// close takes everything down. The daemons are killed with the lab: their
// programs, pins and addresses go with the namespaces and the bpffs.
func (d *demo) close() error {
	for _, w := range []*standin.Web{d.web1, d.web2} {
		if w != nil {
			w.Stop()
		}
	}
	for _, s := range []*standin.DNS{d.dns1, d.dns2} {
		if s != nil {
			s.Stop()
		}
	}
	err := d.lab.Close()
	for _, n := range []*node{d.node1, d.node2} {
		if n != nil {
			n.closeLog()
		}
	}
	if err != nil {
		return fmt.Errorf("demo: take the lab down: %w", err)
	}
	return nil
}

func (d *demo) nodes() []*node { return []*node{d.node1, d.node2} }

// other is the peer of a director.
func (d *demo) other(n *node) *node {
	if n == d.node1 {
		return d.node2
	}
	return d.node1
}

func (d *demo) description() Lab {
	l := Lab{VIP: vip.String(), Hosts: map[string]string{}, Keepalive: millis(keepalive), Deadtime: millis(deadtime)}
	for _, a := range addresses {
		l.Hosts[a.name] = a.addr.String()
	}
	return l
}

// webRequest is the client's request to the virtual address.
func webRequest() probe.Request {
	return probe.Request{Target: netip.AddrPortFrom(vip, 80), Host: siteName, Path: "/", Timeout: 2 * time.Second}
}

// tails prints the end of each daemon's log.
func (d *demo) tails(w io.Writer) {
	for _, n := range d.nodes() {
		fmt.Fprintf(w, "\n--- the last lines of %s's log\n%s", n.name, n.tail(30))
	}
}

// howToEnter tells how to look around in a lab that was kept.
func (d *demo) howToEnter(w io.Writer) {
	fmt.Fprintf(w, "\nThe lab stays up until you press Ctrl-C. In another terminal, as root:\n\n")
	for _, h := range d.lab.Hosts() {
		fmt.Fprintf(w, "  ip netns exec %-14s sh     # or: nsenter --net=/run/netns/%s\n", h.Namespace, h.Namespace)
	}
	fmt.Fprintf(w, "\n  ip netns exec %s curl -s http://%s/\n", d.client.Namespace, vip)
	for _, n := range d.nodes() {
		fmt.Fprintf(w, "  %s status --socket %s\n", d.o.Binary, n.values.Socket)
	}
	fmt.Fprintf(w, "\nConfig files and logs are in %s\n", d.lab.Dir())
}
