package ipvs

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"systole/dataplane"
)

// fake is IPVS in memory, with its errors. It can fail at a given command.
type fake struct {
	table  []Service
	log    []string
	failAt map[int]error // by number of the command, from 1
	count  int
	after  func([]Service) // sees the table after every command
	closed bool

	running  []Daemon
	times    dataplane.Timeouts
	conns    string // as /proc/net/ip_vs_conn has them
	connsErr error
}

func (f *fake) services() ([]Service, error) {
	out := slices.Clone(f.table)
	for i := range out {
		out[i].Servers = slices.Clone(out[i].Servers)
	}
	return out, nil
}

func (f *fake) find(s *Service) int {
	return slices.IndexFunc(f.table, func(x Service) bool { return x.Key == s.Key })
}

func (f *fake) do(o op) error {
	f.count++
	if err := f.failAt[f.count]; err != nil {
		return err
	}
	f.log = append(f.log, o.String())
	i := f.find(o.service)
	switch o.verb {
	case addService:
		if i >= 0 {
			return unix.EEXIST
		}
		s := *o.service
		s.Servers, s.Flags = nil, s.Flags|hashed
		f.table = append([]Service{s}, f.table...)
	case setService:
		if i < 0 {
			return unix.ESRCH
		}
		servers := f.table[i].Servers
		f.table[i] = *o.service
		f.table[i].Servers, f.table[i].Flags = servers, o.service.Flags|hashed
	case delService:
		if i < 0 {
			return unix.ESRCH
		}
		f.table = slices.Delete(f.table, i, i+1)
	default:
		if i < 0 {
			return unix.ESRCH
		}
		if err := f.doServer(&f.table[i], o); err != nil {
			return err
		}
	}
	if f.after != nil {
		f.after(f.table)
	}
	return nil
}

func (f *fake) doServer(s *Service, o op) error {
	j := slices.IndexFunc(s.Servers, func(d Server) bool { return d.Addr == o.server.Addr })
	switch {
	case o.verb == addServer && j >= 0:
		return unix.EEXIST
	case o.verb == addServer:
		s.Servers = append([]Server{o.server}, s.Servers...)
	case j < 0:
		return unix.ENOENT
	case o.verb == setServer:
		old := s.Servers[j]
		s.Servers[j] = o.server
		s.Servers[j].Active, s.Servers[j].Inactive = old.Active, old.Inactive
	case o.verb == delServer:
		s.Servers = slices.Delete(s.Servers, j, j+1)
	}
	return nil
}

// seen gives a service's counters something to show: 3<<40 connections, and of
// each server as many packets as its address ends in.
func (f *fake) seen(key dataplane.ServiceKey) {
	s := &f.table[f.find(&Service{Key: key})]
	s.Stats = Stats{InPackets: 1 << 40, InBytes: 2 << 40, Connections: 3 << 40, OutPackets: 4 << 40, OutBytes: 5 << 40}
	for i := range s.Servers {
		s.Servers[i].Stats = Stats{InPackets: uint64(s.Servers[i].Addr.Addr().As4()[3])}
	}
}

func (f *fake) connections() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.conns)), f.connsErr
}

func (f *fake) daemons() ([]Daemon, error) { return f.running, nil }

func (f *fake) startDaemon(d *Daemon) error {
	if slices.ContainsFunc(f.running, func(o Daemon) bool { return o.Role == d.Role }) {
		return unix.EEXIST
	}
	if d.Interface != "eth0" {
		return unix.ENODEV
	}
	f.running = append(f.running, *d)
	return nil
}

func (f *fake) stopDaemon(r DaemonRole) error {
	i := slices.IndexFunc(f.running, func(o Daemon) bool { return o.Role == r })
	if i < 0 {
		return unix.ESRCH
	}
	f.running = slices.Delete(f.running, i, i+1)
	return nil
}

func (f *fake) timeouts() (dataplane.Timeouts, error) { return f.times, nil }

func (f *fake) setTimeouts(t dataplane.Timeouts) error {
	f.times = dataplane.Timeouts{TCP: cmp.Or(t.TCP, f.times.TCP), TCPFin: cmp.Or(t.TCPFin, f.times.TCPFin), UDP: cmp.Or(t.UDP, f.times.UDP)}
	return nil
}

func (f *fake) zero(s *Service) error {
	i := f.find(s)
	if i < 0 {
		return unix.ESRCH
	}
	f.table[i].Stats = Stats{}
	return nil
}

func (f *fake) info() (string, int, error) { return "1.2.1", 4096, nil }
func (f *fake) close()                     { f.closed = true }

// text is a table in one line, for comparing: order of services and servers
// and connection counts do not matter.
func text(services []Service) string {
	out := ""
	for _, s := range sorted(services) {
		out += fmt.Sprintf("%s %s flags=%x timeout=%d mask=%x%s:", &s, s.Scheduler, s.Flags&^hashed, s.Timeout, s.Netmask, s.Engine)
		for _, d := range s.Servers {
			out += fmt.Sprintf(" %s %s%v %d x%d y%d,", d.Addr, d.Forward, d.Tunnel, d.Weight, d.Upper, d.Lower)
		}
		out += "; "
	}
	return out
}
