package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// NIC is the name of a host's interface on the switch.
const NIC = "eth0"

// bridgeName is the switch within its namespace.
const bridgeName = "br0"

// Host is one machine of the lab.
type Host struct {
	Name      string       // "node1"
	Namespace string       // "<prefix>-node1"
	Addr      netip.Prefix // of eth0
	MAC       net.HardwareAddr

	lab *Lab
	ns  *namespace
}

// macOf is the address for a host: locally administered (02), and readable.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x00, b[0], b[1], b[2], b[3]}
}

// addBridge makes the switch. Without STP a port forwards from the moment it
// has a carrier, and without snooping multicast does not wait for a querier.
func (ns *namespace) addBridge() error {
	snooping := false
	br := &netlink.Bridge{
		LinkAttrs:         netlink.LinkAttrs{Name: bridgeName},
		MulticastSnooping: &snooping,
	}
	if err := ns.nl.LinkAdd(br); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := ns.nl.LinkSetUp(br); err != nil {
		return fmt.Errorf("bridge up: %w", err)
	}
	return nil
}

// connect lays the cable: a veth pair made in the switch's namespace with its
// far end in the host's, so that no other namespace ever sees it.
func (h *Host) connect(sw *namespace) error {
	br, err := sw.nl.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	cable := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: h.Name, MasterIndex: br.Attrs().Index},
		PeerName:         NIC,
		PeerHardwareAddr: h.MAC,
		PeerNamespace:    netlink.NsFd(int(h.ns.fd)),
	}
	if err := sw.nl.LinkAdd(cable); err != nil {
		return fmt.Errorf("cable: %w", err)
	}
	nic, err := h.ns.nl.LinkByName(NIC)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP:   h.Addr.Addr().AsSlice(),
		Mask: net.CIDRMask(h.Addr.Bits(), 32),
	}}
	if err := h.ns.nl.AddrAdd(nic, addr); err != nil {
		return fmt.Errorf("address %s: %w", h.Addr, err)
	}
	if err := h.ns.nl.LinkSetUp(nic); err != nil {
		return err
	}
	return h.Plug()
}

// Do runs f on an OS thread that is in the host's namespace: what f opens
// (sockets, netlink handles) belongs to the host for good. f must not start
// goroutines that rely on it, and must not end its own (t.FailNow). Calls run
// side by side; each takes a thread for as long as f runs.
func (h *Host) Do(f func() error) error { return h.ns.do(f) }

// Netlink is a route netlink handle in the host's namespace. The lab closes it.
func (h *Host) Netlink() *netlink.Handle { return h.ns.nl }

// Cut pulls the host's cable out of the switch: both ends lose the carrier,
// as with a real one.
func (h *Host) Cut() error {
	sw := h.lab.sw.nl
	port, err := sw.LinkByName(h.Name)
	if err == nil {
		err = sw.LinkSetDown(port)
	}
	return h.portError(err)
}

// Plug puts the cable back and returns when frames can pass. That is a while
// after the carrier is there: the kernel tells the queueing layer and the
// bridge of it from a work queue, and drops what is sent before.
func (h *Host) Plug() error {
	sw := h.lab.sw.nl
	port, err := sw.LinkByName(h.Name)
	if err == nil {
		err = sw.LinkSetUp(port)
	}
	if err != nil {
		return h.portError(err)
	}
	deadline := time.Now().Add(linkUpLimit)
	for {
		up, err := bothUp(h.ns.nl, NIC, sw, h.Name)
		if up || err != nil {
			return h.portError(err)
		}
		if time.Now().After(deadline) {
			return h.portError(fmt.Errorf("no link after %v", linkUpLimit))
		}
		time.Sleep(time.Millisecond)
	}
}

// linkUpLimit is far more than the second by which the kernel may put off the
// news of a carrier (net/core/link_watch.c).
const linkUpLimit = 5 * time.Second

// bothUp tells whether both ends of a cable are operational (RFC 2863).
func bothUp(a *netlink.Handle, nameA string, b *netlink.Handle, nameB string) (bool, error) {
	la, err := a.LinkByName(nameA)
	if err != nil {
		return false, err
	}
	lb, err := b.LinkByName(nameB)
	if err != nil {
		return false, err
	}
	return la.Attrs().OperState == netlink.OperUp && lb.Attrs().OperState == netlink.OperUp, nil
}

func (h *Host) portError(err error) error {
	if err != nil {
		return fmt.Errorf("switch port %s: %w", h.Name, err)
	}
	return nil
}

// SetSysctl writes a value below net, such as "net.ipv4.conf.all.arp_ignore".
func (h *Host) SetSysctl(key, value string) error {
	return h.Do(func() error { return writeSysctl(key, value) })
}

// Sysctl reads a value below net.
func (h *Host) Sysctl(key string) (string, error) {
	var v string
	err := h.Do(func() error {
		path, err := sysctlPath(key)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		v = strings.TrimSpace(string(b))
		return err
	})
	return v, err
}

// writeSysctl writes in the namespace of the calling thread: that is whose
// /proc/sys/net a thread sees. Anything else in /proc/sys is the machine's.
func writeSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(value), 0)
}

func sysctlPath(key string) (string, error) {
	if !strings.HasPrefix(key, "net.") || strings.ContainsAny(key, "/ ") || strings.Contains(key, "..") {
		return "", fmt.Errorf("%w: sysctl %q: only net.* belongs to a host", ErrName, key)
	}
	return "/proc/sys/" + strings.ReplaceAll(key, ".", "/"), nil
}
