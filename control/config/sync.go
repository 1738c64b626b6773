package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// How flows get to the other director.
const (
	Multicast = "multicast"
	Unicast   = "unicast"
)

// Sync says how the flow table of the director that serves gets to the other
// one. The fields that mean nothing for its Mode are zero.
type Sync struct {
	Mode       string                // Multicast (default) or Unicast
	Interfaces []string              // what is sent goes by all of them; default: the data plane's (first)
	Port       uint16                // UDP; default 8848, the kernel's
	SyncID     uint8                 // 0 to 255; of others with another one nothing is taken; default 0: of all
	Group      netip.Addr            // Multicast only; IPv4 or IPv6; default 224.0.0.81, the kernel's
	TTL        int                   // Multicast only, 1 to 255; default 1
	Peers      map[string]netip.Addr // Unicast only; node name -> its address, each of Cluster.Nodes
	Bandwidth  int                   // bytes a second; default 12,500,000 (100Mbit)
	Kernel     bool                  // take what a kernel's master daemon sends, which is not signed; default false
}

// defaultBandwidth is a tenth of a slow NIC's; a million flows take three seconds.
const defaultBandwidth = "100Mbit"

// sync reads the section sync; nil if there is none.
func (d *decoder) sync(root *mapping, dp DataPlane, f *facts) *Sync {
	if root.bad || !root.has("sync") {
		root.asked = append(root.asked, "sync")
		return nil
	}
	m := root.sub("sync")
	mode := read(m, "mode", Multicast, oneOf([]string{Multicast, Unicast}, map[string]string{
		"mcast": "is called multicast here", "ucast": "is called unicast here", "bcast": "is nothing flows are sent by: use multicast"}))
	port := read(m, "port", 8848, port)
	id := read(m, "syncid", 0, number(0, 255))
	group := read(m, "group", netip.AddrFrom4([4]byte{224, 0, 0, 81}), syncGroup)
	ttl := read(m, "ttl", 1, number(1, 255))
	s := &Sync{Mode: mode.val, Interfaces: d.syncInterfaces(m, dp), Port: port.val, SyncID: uint8(id.val)}
	own, others := []string{"group", "ttl"}, []string{"peers"}
	if mode.val == Unicast {
		own, others = others, own
		s.Peers = d.syncPeers(m, f)
		if len(s.Interfaces) > 1 {
			d.errorf(m.at, "sync: with mode unicast each director has one address, so there is one interface: name it alone")
		}
	} else {
		m.take("peers")
		s.Group, s.TTL = group.val, ttl.val
	}
	if !mode.bad {
		for _, e := range m.entries {
			if slices.Contains(others, e.key) {
				d.errorf(e.at, "%s has no effect with mode %s: remove it", e.key, mode.val)
			}
		}
	}
	def, _ := bandwidth(scalar{text: defaultBandwidth})
	s.Bandwidth = read(m, "bandwidth", def, bandwidth).val
	s.Kernel = read(m, "kernel", false, boolean).val
	if f.nodesGood && len(f.nodes) == 1 && !s.Kernel && !m.bad {
		d.errorf(m.at, "sync has no effect with one director: remove it")
	}
	m.done()
	return s
}

// syncInterfaces are the NICs of sync.
func (d *decoder) syncInterfaces(m *mapping, dp DataPlane) []string {
	l := m.list("interfaces")
	var names []string
	for _, n := range l.items {
		name := readNode(d, n, "interfaces", l.at, interfaceName)
		switch {
		case name.bad:
		case slices.Contains(names, name.val):
			d.errorf(name.at, "interfaces: %s is named twice: remove one", name.val)
		default:
			names = append(names, name.val)
		}
	}
	switch {
	case l.bad || len(names) > 0:
	case l.set && len(l.items) > 0: // reported
	case l.set:
		d.errorf(l.at, "interfaces is empty: name a NIC that leads to the other director, or remove the key")
	case dp.Interface == "":
		m.missing("interfaces", "the NICs that lead to the other director, such as interfaces: [eth0]")
	default:
		names = []string{dp.Interface}
	}
	return names
}

// syncPeers are the directors' addresses for mode unicast.
func (d *decoder) syncPeers(m *mapping, f *facts) map[string]netip.Addr {
	if m.bad {
		return nil
	}
	if !m.has("peers") {
		m.asked = append(m.asked, "peers")
		m.missing("peers", "the address of each director, such as peers: {node1: 192.0.2.1, node2: 192.0.2.2}")
		return nil
	}
	return d.nodeAddresses(m.sub("peers"), "for sync", peerAddress, f.nodes, f)
}

// syncGroup is a multicast group; the kernel's own is one of those for routers
// and the like.
func syncGroup(s scalar) (netip.Addr, error) {
	if s.text == "224.0.0.81" {
		return netip.AddrFrom4([4]byte{224, 0, 0, 81}), nil
	}
	return multicastGroup(s)
}

var rate = regexp.MustCompile(`^([1-9][0-9]{0,5})(kbit|Mbit|Gbit)$`)

// bandwidth is a rate in bit/s with its unit; the value is bytes a second.
func bandwidth(s scalar) (int, error) {
	m := rate.FindStringSubmatch(s.text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a bandwidth: write one such as 800kbit, 100Mbit or 1Gbit", s.text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, err
	}
	bits := n * map[string]int{"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}[m[2]]
	switch {
	case bits < 800e3:
		return 0, fmt.Errorf("%s is too little: want 800kbit to 100Gbit", s.text)
	case bits > 100e9:
		return 0, fmt.Errorf("%s is too much: want 800kbit to 100Gbit", s.text)
	}
	return bits / 8, nil
}

// String describes it in a few words; a nil Sync is "none".
func (s *Sync) String() string {
	if s == nil {
		return "none"
	}
	to := fmt.Sprintf("to group %s", s.Group)
	if s.TTL > 1 {
		to += fmt.Sprintf(" with ttl %d", s.TTL)
	}
	if s.Mode == Unicast {
		names := make([]string, 0, len(s.Peers))
		for n := range s.Peers {
			names = append(names, n)
		}
		slices.Sort(names)
		to = "to " + nodeAddrs(names, s.Peers)
	}
	out := fmt.Sprintf("%s port %d by %s, sync id %d, at most %d kbit/s", to, s.Port, strings.Join(s.Interfaces, ", "), s.SyncID, s.Bandwidth/125)
	if s.Kernel {
		out += ", kernels' messages too"
	}
	return out
}
