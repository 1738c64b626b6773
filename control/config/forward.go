package config

import (
	"fmt"
	"net/netip"
)

// DefaultGUEPort is the UDP port that GUE has with IANA.
const DefaultGUEPort = 6080

var otherForwards = map[string]string{
	"dr": "is called gate here", "route": "is called gate here", "direct": "is called gate here",
	"nat": "is called masq here", "masquerade": "is called masq here", "masquerading": "is called masq here",
	"tun": "is called ipip here", "tunnel": "is called ipip here", "ipencap": "is called ipip here",
	"gre": "is not there: use ipip or gue",
}

// forward reads how packets get to a real server.
func (d *decoder) forward(e *mapping, s *Service, srv *Server, addr field[netip.Addr]) {
	fwd := read(e, "forward", "gate", oneOf([]string{"gate", "ipip", "gue", "masq"}, otherForwards))
	srv.Forward = fwd.val
	prt := read(e, "port", 0, port)
	tunnel := read(e, "tunnel_port", 0, port)
	if fwd.bad {
		return
	}
	switch {
	case !prt.set:
	case fwd.val != "masq":
		d.errorf(prt.at, "port has no effect with forward %s, which leaves packets as they are: remove it, or write forward: masq", fwd.val)
	case s.FWMark == 0 && (s.Port == 0 || s.LastPort != 0):
		d.errorf(prt.at, "port: a service of many ports keeps them: remove it")
	case prt.val != s.Port: // else it is the service's
		srv.Port = prt.val
	}
	switch {
	case fwd.val == "gue" && !tunnel.bad:
		srv.TunnelPort = DefaultGUEPort
		if tunnel.set {
			srv.TunnelPort = tunnel.val
		}
	case tunnel.set:
		d.errorf(tunnel.at, "tunnel_port has no effect with forward %s: remove it, or write forward: gue", fwd.val)
	}
	if s.FWMark == 0 && s.VIP.IsValid() && !addr.bad && addr.val.Is6() != s.VIP.Is6() && (fwd.val == "gate" || fwd.val == "masq") {
		d.errorf(addr.at, "address: %s is not of the family of %s: only a tunnel, forward ipip or gue, leads from one to the other", addr.val, s.VIP)
	}
}

// thresholds reads the numbers of connections between which a server is full.
func (d *decoder) thresholds(e *mapping, srv *Server) {
	const most = 1<<31 - 1 // ip_vs_dest's are u32, and compared with int
	upper := read(e, "upper", 0, number(1, most))
	lower := read(e, "lower", 0, number(1, most))
	srv.Upper, srv.Lower = uint32(upper.val), uint32(lower.val)
	switch {
	case !lower.set || upper.bad:
	case !upper.set:
		d.errorf(lower.at, "lower has no effect without upper, the number of connections from which on the server gets no more")
	case lower.val >= upper.val:
		d.errorf(lower.at, "lower %d must be less than upper %d: three quarters of it, %d, is usual", lower.val, upper.val, upper.val*3/4)
	}
}

// How says how packets get to the server and how many connections it may have:
// "gate", "masq to port 8080, up to 100 connections".
func (s Server) How() string {
	out := s.Forward
	switch {
	case s.Port != 0:
		out += fmt.Sprintf(" to port %d", s.Port)
	case s.Forward == "gue":
		out += fmt.Sprintf(" to udp port %d", s.TunnelPort)
	}
	if s.Upper != 0 {
		out += fmt.Sprintf(", up to %d connections", s.Upper)
	}
	if s.Lower != 0 {
		out += fmt.Sprintf(" and again below %d", s.Lower)
	}
	return out
}
