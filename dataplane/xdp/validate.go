package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/scheduler"
)

// What one generation holds at most.
const (
	MaxVIPs     = 1024                                           // of one family
	MaxServices = len(bpf.DirectorGeneration{}.ServiceShift) - 1 // id 0 means none
	MaxServers  = len(bpf.DirectorGeneration{}.Servers) - 1      // of all services together
	MaxSlots    = len(bpf.DirectorGeneration{}.Slots)
	MaxPeers    = len(bpf.DirectorGeneration{}.Peers)
	MaxRanges   = len(bpf.DirectorGeneration{}.Ranges) // services of many ports

	MaxRangesPerVIP = 16 // RANGES_PER_VIP of consts.h
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", dataplane.ErrInvalid, fmt.Sprintf(format, args...))
}

// validate checks everything about s that does not depend on what the plane
// holds already. own are the interfaces' addresses.
func validate(s dataplane.Snapshot, own ...net.HardwareAddr) error {
	v4, v6 := splitVIPs(s.VIPs)
	for _, vips := range [][]dataplane.VIP{v4, v6} {
		if n := len(vips); n > MaxVIPs {
			return invalid("%d virtual addresses, at most %d of one family are possible", n, MaxVIPs)
		}
	}
	if n := len(s.Services); n > MaxServices {
		return invalid("%d services, at most %d are possible", n, MaxServices)
	}
	if n := len(s.Peers); n > MaxPeers {
		return invalid("%d peers, at most %d are possible", n, MaxPeers)
	}
	for i, mac := range s.Peers {
		if !usable(mac) || isOneOf(mac, own) {
			return invalid("peer %d has the MAC %q: want the Ethernet address of another director", i+1, mac)
		}
	}
	vips := make(map[netip.Addr]bool, len(s.VIPs))
	for _, v := range s.VIPs {
		switch {
		case !unicast(v.Addr):
			return invalid("virtual address %s: the xdp plane forwards IPv4 and IPv6 unicast addresses only", v.Addr)
		case vips[v.Addr]:
			return invalid("virtual address %s is listed twice", v.Addr)
		case v.Role > dataplane.Draining:
			return invalid("virtual address %s has the unknown role %s", v.Addr, v.Role)
		}
		vips[v.Addr] = true
	}
	servers := 0
	ranges, rangesOf := 0, make(map[netip.Addr]int)
	services := make(map[dataplane.ServiceKey]bool, len(s.Services))
	for _, svc := range s.Services {
		switch {
		case !vips[svc.VIP]:
			return invalid("service %s: its address is not among the virtual addresses", svc.ServiceKey)
		case services[svc.ServiceKey]:
			return invalid("service %s is listed twice", svc.ServiceKey)
		}
		services[svc.ServiceKey] = true
		if manyPorts(svc.ServiceKey) {
			ranges++
			if rangesOf[svc.VIP]++; rangesOf[svc.VIP] > MaxRangesPerVIP {
				return invalid("service %s: an address can have at most %d services of many ports", svc.ServiceKey, MaxRangesPerVIP)
			}
			if ranges > MaxRanges {
				return invalid("service %s: at most %d services of many ports are possible", svc.ServiceKey, MaxRanges)
			}
		}
		if err := Carries(svc); err != nil {
			return invalid("service %s: %v", svc.ServiceKey, err)
		}
		if err := validateServers(svc, own); err != nil {
			return err
		}
		servers += len(svc.Servers)
	}
	if servers > MaxServers {
		return invalid("%d real servers, at most %d are possible", servers, MaxServers)
	}
	return nil
}

// The flags of sh and mh by the names they have for every scheduler.
const (
	flagFallback = "flag-1" // sh-fallback, mh-fallback
	flagPort     = "flag-2" // sh-port, mh-port
)

// schedulers are those we have; asked for each service of each Apply.
var schedulers = scheduler.Names()

// Carries is nil if the xdp plane can forward svc, else why it cannot.
func Carries(svc dataplane.Service) error {
	switch {
	case svc.Mark != 0:
		return errors.New("the xdp plane sees packets before the firewall marks them")
	case svc.LastPort != 0 && svc.LastPort <= svc.Port, svc.LastPort != 0 && svc.Port == 0:
		return errors.New("the range of ports is empty")
	case svc.Protocol != dataplane.TCP && svc.Protocol != dataplane.UDP && svc.Protocol != dataplane.SCTP:
		return errors.New("the xdp plane forwards tcp, udp and sctp only")
	case !slices.Contains(schedulers, svc.Scheduler):
		return fmt.Errorf("the xdp plane has no scheduler %q, but %s", svc.Scheduler, strings.Join(scheduler.Names(), ", "))
	case svc.Persistence.Engine != "":
		return fmt.Errorf("the xdp plane has no persistence engine %q: it tells clients apart by their addresses", svc.Persistence.Engine)
	case svc.OnePacket && svc.Protocol != dataplane.UDP:
		return errors.New("one-packet scheduling is for udp only")
	case svc.OnePacket && svc.Persistence.Timeout != 0:
		return errors.New("the xdp plane cannot do both: persistence and one-packet scheduling")
	case svc.Lost > dataplane.Keep:
		return fmt.Errorf("unknown fate %s of the flows of servers that left", svc.Lost)
	}
	if err := carriesLeast(svc); err != nil {
		return err
	}
	for _, f := range svc.SchedulerFlags {
		if !scheduler.Hashed(svc.Scheduler) || f != flagFallback && f != flagPort && f != svc.Scheduler+"-fallback" && f != svc.Scheduler+"-port" {
			return fmt.Errorf("the xdp plane knows no flag %q of scheduler %s", f, svc.Scheduler)
		}
	}
	if err := validateQUIC(svc); err != nil {
		return err
	}
	if p, most := svc.Persistence, svc.VIP.BitLen(); p.Timeout < 0 || p.Timeout > maxTimeout || p.PrefixLen < 0 || p.PrefixLen > most || p.Timeout == 0 && p.PrefixLen != 0 {
		return fmt.Errorf("persistence of %s for prefixes of %d bits: choose a time up to %s and 1 to %d bits", p.Timeout, p.PrefixLen, maxTimeout, most)
	}
	for _, t := range []time.Duration{svc.Timeouts.TCP, svc.Timeouts.TCPFin, svc.Timeouts.UDP} {
		if t < 0 || t > maxTimeout {
			return fmt.Errorf("a timeout of %s: choose one up to %s", t, maxTimeout)
		}
	}
	for _, r := range svc.Servers {
		switch {
		case r.Forward > dataplane.GUE:
			return fmt.Errorf("real server %s: the xdp plane forwards by gate, ipip and gue: replies to %s must come back through it", r.Addr, r.Forward)
		case r.Port != 0 && r.Port != svc.Port:
			return fmt.Errorf("real server %s: %s keeps the port", r.Addr, r.Forward)
		case r.TunnelPort != 0 && r.Forward != dataplane.GUE:
			return fmt.Errorf("real server %s: tunnel port %d: only gue has one", r.Addr, r.TunnelPort)
		case r.Upper != 0 || r.Lower != 0:
			return fmt.Errorf("real server %s: the xdp plane has no connection thresholds", r.Addr)
		}
	}
	return nil
}

func validateServers(svc dataplane.Service, own []net.HardwareAddr) error {
	const few = 16 // among which it takes less time to look than to make a map
	var seen map[netip.Addr]bool
	if len(svc.Servers) > few {
		seen = make(map[netip.Addr]bool, len(svc.Servers))
	}
	twice := func(i int, a netip.Addr) bool {
		if seen == nil {
			return slices.ContainsFunc(svc.Servers[:i], func(r dataplane.RealServer) bool { return r.Addr == a })
		}
		was := seen[a]
		seen[a] = true
		return was
	}
	for i, r := range svc.Servers {
		switch {
		case !r.Addr.IsValid() || r.Addr.IsUnspecified() || r.Addr.Is4In6():
			return invalid("service %s: real server %s: want the address of a machine", svc.ServiceKey, r.Addr)
		case r.Addr.Is4() != svc.VIP.Is4() && !r.Tunnelled():
			return invalid("service %s: real server %s: gate forwarding keeps the address family", svc.ServiceKey, r.Addr)
		case twice(i, r.Addr):
			return invalid("service %s: real server %s is listed twice", svc.ServiceKey, r.Addr)
		case known(r.MAC) && !usable(r.MAC):
			return invalid("service %s: real server %s has the MAC %q: want an Ethernet unicast address", svc.ServiceKey, r.Addr, r.MAC)
		case known(r.MAC) && isOneOf(r.MAC, own):
			return invalid("service %s: real server %s has this director's own MAC %s: the xdp plane cannot deliver locally", svc.ServiceKey, r.Addr, r.MAC)
		}
		if err := validateWay(r); err != nil {
			return invalid("service %s: real server %s: %v", svc.ServiceKey, r.Addr, err)
		}
	}
	return nil
}

// unicast tells whether a can be a virtual address. A mapped one is not on
// any wire.
func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6() && a.Zone() == ""
}

func isOneOf(mac net.HardwareAddr, macs []net.HardwareAddr) bool {
	return slices.ContainsFunc(macs, func(m net.HardwareAddr) bool { return bytes.Equal(m, mac) })
}

// known tells a MAC from the absence of one: nil or all zero.
func known(mac net.HardwareAddr) bool {
	for _, b := range mac {
		if b != 0 {
			return true
		}
	}
	return false
}

// usable tells whether mac can be the address of one Ethernet station.
func usable(mac net.HardwareAddr) bool {
	return len(mac) == 6 && mac[0]&1 == 0 && known(mac)
}
