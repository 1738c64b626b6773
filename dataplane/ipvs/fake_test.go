package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

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
}

func (f *fake) services() ([]Service, error) {
	out := slices.Clone(f.table)
	for i := range out {
		out[i].Servers = slices.Clone(out[i].Servers)
	}
	return out, nil
}

func (f *fake) find(s *Service) int {
	return slices.IndexFunc(f.table, func(x Service) bool { return x.id() == s.id() })
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

func (f *fake) counters(s *Service) (serviceCounters, error) {
	i := f.find(s)
	if i < 0 {
		return serviceCounters{}, unix.ESRCH
	}
	c := serviceCounters{
		service: dataplane.Counters{Packets: 1 << 40, Bytes: 2 << 40, Connections: 3 << 40},
		servers: make(map[netip.AddrPort]dataplane.Counters),
	}
	for _, d := range f.table[i].Servers {
		c.servers[d.Addr] = dataplane.Counters{Packets: uint64(d.Addr.Addr().As4()[3])}
	}
	return c, nil
}

func (f *fake) info() (string, int, error) { return "1.2.1", 4096, nil }
func (f *fake) close()                     { f.closed = true }

// text is a table in one line, for comparing: order of services and servers
// and connection counts do not matter.
func text(services []Service) string {
	out := ""
	for _, s := range sorted(services) {
		out += fmt.Sprintf("%s %s flags=%x timeout=%d mask=%x:", &s, s.Scheduler, s.Flags&^hashed, s.Timeout, s.Netmask)
		for _, d := range s.Servers {
			out += fmt.Sprintf(" %s %s %d x%d y%d,", d.Addr, d.Forward, d.Weight, d.Upper, d.Lower)
		}
		out += "; "
	}
	return out
}
