package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// schedulers are those of IPVS; which plane has which is the planes' affair.
var schedulers = strings.Fields("rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos")

// unweighted are the schedulers that take weights above 0 for equal.
var unweighted = []string{"rr", "lc", "dh"}

// traffic reads how a service's connections are given to its servers, and how
// long they are remembered.
func (d *decoder) traffic(e *mapping, s *Service) {
	sched := read(e, "scheduler", "rr", oneOf(schedulers, nil))
	s.Scheduler = sched.val
	s.SchedulerFlags = d.schedulerFlags(e, sched)
	s.Persistent = d.persistent(e, s)
	one := read(e, "one_packet", false, boolean)
	s.OnePacket = one.val
	switch {
	case !one.val:
	case s.Protocol != "udp" && s.FWMark == 0:
		d.errorf(one.at, "one_packet is for udp, whose datagrams may each go their own way: %s has connections, remove it", s.Protocol)
	case s.Persistent.Timeout != 0:
		d.errorf(one.at, "one_packet sends each datagram to another server, persistent all of a client to one: remove one of them")
	}
	d.quic(e, s)
	s.Timeouts = d.timeouts(e, s)
	lost := read(e, "lost", "reset", oneOf([]string{"reset", "reschedule", "keep"}, nil))
	s.Lost = lost.val
	if lost.set && one.val {
		d.errorf(lost.at, "lost has no effect with one_packet, which keeps no connections: remove it")
	}
}

// schedulerFlags reads the flags of sh and mh. flag-1 and flag-2 are what
// ipvsadm calls them where it does not know the scheduler.
func (d *decoder) schedulerFlags(e *mapping, sched field[string]) []string {
	l := e.list("scheduler_flags")
	var flags []string
	for _, n := range l.items {
		f := readNode(d, n, "scheduler_flags", l.at, text)
		if f.bad || sched.bad {
			continue
		}
		if sched.val != "sh" && sched.val != "mh" {
			d.errorf(f.at, "scheduler_flags: %q has no effect with scheduler %s: only sh and mh have flags", f.val, sched.val)
			continue
		}
		words := []string{sched.val + "-fallback", sched.val + "-port"}
		switch f.val {
		case "flag-1":
			f.val = words[0]
		case "flag-2":
			f.val = words[1]
		}
		switch {
		case !slices.Contains(words, f.val):
			d.errorf(f.at, "scheduler_flags: want %s with scheduler %s, found %q", anyOf(words), sched.val, f.val)
		case slices.Contains(flags, f.val):
			d.errorf(f.at, "scheduler_flags: %s is there twice: remove one", f.val)
		default:
			flags = append(flags, f.val)
		}
	}
	return flags
}

func (d *decoder) persistent(e *mapping, s *Service) Persistent {
	if !e.has("persistent") {
		e.asked = append(e.asked, "persistent")
		return Persistent{}
	}
	m := e.sub("persistent")
	// IPVS counts seconds, ipvsadm takes up to a month.
	p := Persistent{Timeout: need(m, "timeout", "how long a client is bound to its server, such as timeout: 5m", seconds(time.Second, 31*24*time.Hour)).val}
	mask := read(m, "netmask", 0, netmask)
	m.done()
	if s.VIP.IsValid() && s.FWMark == 0 {
		d.prefixFits(&p, mask, s.VIP)
	} else {
		p.PrefixLen = mask.val // markFamily looks at it
	}
	return p
}

// prefixFits checks the netmask for the family of the service's address.
func (d *decoder) prefixFits(p *Persistent, mask field[int], vip netip.Addr) {
	switch most := vip.BitLen(); {
	case mask.val > most:
		d.errorf(mask.at, "netmask: %d is more than the %d bits of the clients' addresses", mask.val, most)
	case mask.val < most: // else each address is its own
		p.PrefixLen = mask.val
	}
}

// netmask is "255.255.255.0" or the number of its bits.
func netmask(s scalar) (int, error) {
	if s.kind == ast.IntegerType {
		return number(1, 128)(s)
	}
	a, err := netip.ParseAddr(s.text)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("%q is not a netmask: write one such as 255.255.255.0, or the number of its bits", s.text)
	}
	b := a.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := 0
	for m&(1<<31) != 0 {
		n, m = n+1, m<<1
	}
	switch {
	case m != 0:
		return 0, fmt.Errorf("%s is not a netmask: its ones must come before its zeros", a)
	case n == 0:
		return 0, fmt.Errorf("%s would bind all clients to one server: want one such as 255.255.255.0", a)
	}
	return n, nil
}

func (d *decoder) timeouts(e *mapping, s *Service) Timeouts {
	if !e.has("timeouts") {
		e.asked = append(e.asked, "timeouts")
		return Timeouts{}
	}
	m := e.sub("timeouts")
	get := func(key, protocol string) time.Duration {
		v := read(m, key, 0, seconds(time.Second, 24*time.Hour))
		switch {
		case !v.set:
		case s.OnePacket:
			d.errorf(v.at, "%s has no effect with one_packet, which keeps no connections: remove it", key)
		case s.FWMark == 0 && s.Protocol != protocol:
			d.errorf(v.at, "%s has no effect in a service of %s: remove it", key, s.Protocol)
		}
		return v.val
	}
	t := Timeouts{TCP: get("tcp", "tcp"), TCPFin: get("tcpfin", "tcp"), UDP: get("udp", "udp")}
	m.done()
	return t
}

// seconds is a duration from min to max in whole seconds.
func seconds(min, max time.Duration) func(scalar) (time.Duration, error) {
	return func(s scalar) (time.Duration, error) {
		v, err := duration(min, max)(s)
		if err == nil && v%time.Second != 0 {
			err = fmt.Errorf("%s is not a whole number of seconds", s.text)
		}
		return v, err
	}
}
