package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// mediaKeys are the types of medium and the keys of each, beside type.
var mediaKeys = map[string][]string{
	"ucast":  {"interface", "port", "peers"},
	"bcast":  {"interface", "port"},
	"mcast":  {"interface", "port", "group", "ttl"},
	"serial": {"device", "baud"},
}

// otherMedia are the types of medium heartbeat has and we do not yet.
var otherMedia = map[string]string{
	"ping":       "is not there yet: remove it",
	"ping6":      "is not there yet: remove it",
	"ping_group": "is not there yet: remove it",
	"bcast6":     "is nothing IPv6 has: use mcast with an IPv6 group",
	"ucast6":     "is ucast with IPv6 addresses here: use ucast",
	"mcast6":     "is mcast with an IPv6 group here: use mcast",
}

// bauds are the rates of a serial line in bit/s.
var bauds = []int{9600, 19200, 38400, 57600, 115200, 230400, 460800}

func (d *decoder) media(m *mapping, f *facts) []Medium {
	l := m.list("media")
	if f.nodesGood && len(f.members) > 1 && !l.bad && len(l.items) == 0 {
		m.missing("media", "at least one path between the directors, such as - {type: ucast, interface: eth0, peers: {...}}")
	}
	f.owners = make(map[netip.Addr]string)
	seen := make(map[string]int) // what two paths cannot share -> line
	var media []Medium
	for _, n := range l.items {
		media = append(media, d.medium(d.item(n, "media"), f, seen))
	}
	return media
}

func (d *decoder) medium(m *mapping, f *facts, seen map[string]int) Medium {
	typ := need(m, "type", "one of ucast, bcast, mcast and serial, such as type: ucast", oneOf([]string{"ucast", "bcast", "mcast", "serial"}, otherMedia))
	has := func(key string) bool { return slices.Contains(mediaKeys[typ.val], key) }
	med := Medium{Type: typ.val}

	iface := read(m, "interface", "", interfaceName)
	port := read(m, "port", 694, port)
	group := read(m, "group", netip.AddrFrom4([4]byte{225, 0, 0, 1}), multicastGroup)
	ttl := read(m, "ttl", 1, number(1, 255))
	device := read(m, "device", "", absolute)
	baud := read(m, "baud", 19200, baudRate)
	if has("peers") {
		med.Peers = d.peers(m, f)
	} else {
		m.take("peers")
	}
	if has("group") {
		med.Group, med.TTL = group.val, ttl.val
	}
	if has("interface") {
		med.Interface, med.Port = iface.val, port.val
		if !iface.set && !iface.bad {
			m.missing("interface", "the NIC of this path, such as interface: eth0")
		} else if !iface.bad && !port.bad {
			what := fmt.Sprintf("%s port %d", iface.val, port.val)
			if med.V6() {
				what += " over IPv6"
			}
			d.onlyOnce(seen, what, iface.at, "another NIC or port")
		}
	}
	if has("device") {
		med.Device, med.Baud = device.val, baud.val
		if !device.set && !device.bad {
			m.missing("device", "the serial line of this path, such as device: /dev/ttyS0")
		} else if !device.bad {
			d.onlyOnce(seen, device.val, device.at, "another line")
		}
	}
	if !typ.bad {
		for _, e := range m.entries {
			if e.used && e.key != "type" && !has(e.key) {
				d.errorf(e.at, "%s has no effect in a medium of type %s: remove it", e.key, typ.val)
			}
		}
	}
	m.done()
	return med
}

func (d *decoder) onlyOnce(seen map[string]int, what string, at pos, other string) {
	if line, twice := seen[what]; twice {
		d.errorf(at, "media: %s is there already, in line %d: a second path needs %s", what, line, other)
		return
	}
	seen[what] = at.line
}

// peers are the members' addresses on one path.
func (d *decoder) peers(m *mapping, f *facts) map[string]netip.Addr {
	if m.bad {
		return nil
	}
	if !m.has("peers") {
		m.asked = append(m.asked, "peers")
		m.missing("peers", "the address of each director on this path, such as peers: {node1: 192.0.2.1, node2: 192.0.2.2}")
		return nil
	}
	p := m.sub("peers")
	addrs := d.nodeAddresses(p, "on this path", peerAddress, f.members, f)
	families := make(map[bool]string)
	for _, n := range slices.Sorted(maps.Keys(addrs)) {
		if a := addrs[n]; a.IsValid() {
			families[a.Is6()] = n
		}
	}
	if len(families) == 2 {
		d.errorf(p.at, "peers: %s has an IPv4 address, %s an IPv6 address: each needs a medium of its own", families[false], families[true])
	}
	return addrs
}

// peerAddress is a unicast address of a director, of either family.
func peerAddress(s scalar) (netip.Addr, error) {
	a, err := netip.ParseAddr(s.text)
	if err != nil || a.Is4() {
		return address(s)
	}
	switch plain := a.WithZone(""); {
	case a.Zone() != "":
		return a, fmt.Errorf("%s has a zone, and that is the medium's interface: write %s", a, plain)
	case a.Is4In6():
		return a, fmt.Errorf("%s is an IPv4 address: write %s", a, a.Unmap())
	case a.IsUnspecified(), a.IsMulticast():
		return a, fmt.Errorf("%s is not the address of one machine", a)
	}
	return a, nil
}

// addresses are the directors' addresses on the LAN of the real servers.
func (d *decoder) addresses(m *mapping, f *facts) map[string]netip.Addr {
	if m.bad || !m.has("addresses") {
		m.asked = append(m.asked, "addresses")
		return nil
	}
	p := m.sub("addresses")
	if f.nodesGood && len(f.nodes) == 1 {
		d.errorf(p.at, "addresses has no effect with one director: remove it")
		return nil
	}
	return d.nodeAddresses(p, "on the LAN of the real servers", lanAddress, f.nodes, f)
}

// nodeAddresses reads one address for each of some nodes, and notes that it is
// a node's.
func (d *decoder) nodeAddresses(p *mapping, where string, parse func(scalar) (netip.Addr, error), nodes []string, f *facts) map[string]netip.Addr {
	if p.bad {
		return nil
	}
	addrs := make(map[string]netip.Addr)
	at := make(map[netip.Addr]string)
	for _, e := range p.entries {
		addr := readNode(d, e.value, e.key, e.at, parse)
		switch {
		case f.nodesGood && !slices.Contains(f.members, e.key):
			d.errorf(e.at, "%s: %q is not among nodes%s (%s)", p.what, e.key, f.orWitnesses(), f.memberList())
			continue
		case f.nodesGood && !slices.Contains(nodes, e.key):
			d.errorf(e.at, "%s: %s is a witness and forwards nothing: remove it here", p.what, e.key)
			continue
		case addr.bad:
			addrs[e.key] = netip.Addr{}
			continue
		}
		if other, twice := at[addr.val]; twice {
			d.errorf(addr.at, "%s: %s is the address of %s already", p.what, addr.val, other)
		}
		at[addr.val] = e.key
		f.owners[addr.val] = e.key
		addrs[e.key] = addr.val
	}
	if f.nodesGood {
		for _, n := range nodes {
			if _, ok := addrs[n]; !ok {
				d.errorf(p.at, "%s is missing in %s: write the address of every node %s, such as %s: 192.0.2.1", n, p.what, where, n)
			}
		}
	}
	return addrs
}

// multicastGroup is a multicast address that hosts may use.
func multicastGroup(s scalar) (netip.Addr, error) {
	a, err := netip.ParseAddr(s.text)
	switch {
	case err != nil:
		return a, fmt.Errorf("%q is not an IP address: write a multicast group such as 225.0.0.1", s.text)
	case a.Zone() != "":
		return a, fmt.Errorf("%s has a zone, and that is the medium's interface: write %s", a, a.WithZone(""))
	case a.Is6():
		return a, multicastGroup6(a)
	case !a.IsMulticast():
		return a, fmt.Errorf("%s is not a multicast group: want one from 224.0.1.0 to 239.255.255.255", a)
	case a.IsLinkLocalMulticast():
		return a, fmt.Errorf("%s belongs to routers and the like (224.0.0.0/24, RFC 5771): want one from 224.0.1.0 to 239.255.255.255", a)
	}
	return a, nil
}

func multicastGroup6(a netip.Addr) error {
	b := a.As16()
	switch {
	case !a.IsMulticast():
		return fmt.Errorf("%s is not a multicast group: want one such as ff02::694", a)
	case b[1]&0xf <= 1:
		return fmt.Errorf("%s does not leave the machine (RFC 4291 section 2.7): want one such as ff02::694", a)
	case b[1]>>4 == 0 && [13]byte(b[2:15]) == [13]byte{}:
		return fmt.Errorf("%s belongs to hosts, routers and the like (RFC 2375): want one such as ff02::694", a)
	}
	return nil
}

func baudRate(s scalar) (int, error) {
	n, err := number(1, 1<<30)(s)
	if err != nil {
		return 0, err
	}
	if !slices.Contains(bauds, n) {
		var words []string
		for _, b := range bauds {
			words = append(words, strconv.Itoa(b))
		}
		return 0, errors.New(strconv.Itoa(n) + " is not a rate of serial lines: want " + anyOf(words))
	}
	return n, nil
}

// V6 tells whether a medium is one over IPv6.
func (m Medium) V6() bool {
	for _, a := range m.Peers {
		if a.Is6() {
			return true
		}
	}
	return m.Group.Is6()
}

// String is what a medium is, for people: "mcast on eth1, udp port 694, ...".
func (m Medium) String() string {
	switch m.Type {
	case "serial":
		return fmt.Sprintf("serial on %s, %d bit/s", m.Device, m.Baud)
	case "mcast":
		return fmt.Sprintf("mcast on %s, udp port %d, group %s, ttl %d", m.Interface, m.Port, m.Group, m.TTL)
	}
	return fmt.Sprintf("%s on %s, udp port %d", m.Type, m.Interface, m.Port)
}

// DirectorAddr is the address of a director on the LAN of the real servers:
// what cluster.addresses says, else what an IPv4 medium on an interface of the
// data plane does. It is false if neither does.
func (c *Config) DirectorAddr(node string) (netip.Addr, bool) {
	if a, ok := c.Cluster.Addresses[node]; ok {
		return a, true
	}
	for _, m := range c.Cluster.Media {
		if a := m.Peers[node]; a.Is4() && slices.Contains(c.DataPlane.NICs(), m.Interface) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// WithoutAddr are the directors whose address on that LAN is not known though a
// planned move needs it: a connection that began at the old owner could not be
// sent there (second chance).
func (c *Config) WithoutAddr() []string {
	var names []string
	if len(c.Cluster.Nodes) < 2 || len(c.Services) == 0 || c.DataPlane.Mode == "ipvs" {
		return nil
	}
	for _, n := range c.Cluster.Nodes {
		if _, ok := c.DirectorAddr(n); !ok {
			names = append(names, n)
		}
	}
	return names
}

// nodeAddrs is "node1 192.0.2.1, node2 192.0.2.2".
func nodeAddrs(nodes []string, of map[string]netip.Addr) string {
	var words []string
	for _, n := range nodes {
		words = append(words, n+" "+of[n].String())
	}
	return strings.Join(words, ", ")
}
