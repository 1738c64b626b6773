package control

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"systole/dataplane"
)

// ServiceSettings are how a service's connections are given to its servers,
// besides its scheduler. What is not there is the default.
type ServiceSettings struct {
	SchedulerFlags []string      `json:"scheduler_flags,omitempty"`
	Persistent     time.Duration `json:"persistent_ns,omitempty"`
	PersistentBits int           `json:"persistent_bits,omitempty"` // of clients' addresses that count as one
	Engine         string        `json:"persistence_engine,omitempty"`
	OnePacket      bool          `json:"one_packet,omitempty"`
	ServerIDLength int           `json:"quic_server_id_length,omitempty"`
}

// ServerSettings are how a real server in the table gets its packets, and how
// many connections. What is not there is the default.
type ServerSettings struct {
	Forward    string `json:"forward,omitempty"` // "ipip", "gue", "masq"; "": gate
	Port       uint16 `json:"port,omitempty"`
	TunnelPort uint16 `json:"tunnel_port,omitempty"`
	Upper      uint32 `json:"upper,omitempty"`
	Lower      uint32 `json:"lower,omitempty"`
	ServerID   string `json:"quic_server_id,omitempty"` // in hexadecimal digits
}

// describe takes the settings of the services from the snapshot in force.
func (s *State) describe(snap dataplane.Snapshot) {
	in := make(map[dataplane.ServiceKey]*dataplane.Service, len(snap.Services))
	for i := range snap.Services {
		in[snap.Services[i].ServiceKey] = &snap.Services[i]
	}
	for i := range s.Services {
		if svc := in[s.Services[i].Key]; svc != nil {
			s.Services[i].describe(svc)
		}
	}
}

func (s *ServiceState) describe(svc *dataplane.Service) {
	s.ServiceSettings = ServiceSettings{
		SchedulerFlags: svc.SchedulerFlags, OnePacket: svc.OnePacket, ServerIDLength: svc.ServerIDLength,
		Persistent: svc.Persistence.Timeout, PersistentBits: svc.Persistence.PrefixLen, Engine: svc.Persistence.Engine,
	}
	for i := range svc.Servers {
		r := &svc.Servers[i]
		for j := range s.Servers {
			if to := &s.Servers[j]; to.InTable && to.key.Server == r.Addr {
				to.ServerSettings = ServerSettings{Port: r.Port, TunnelPort: r.TunnelPort, Upper: r.Upper, Lower: r.Lower,
					ServerID: hex.EncodeToString(r.ServerID)}
				if r.Forward != dataplane.Gate {
					to.Forward = r.Forward.String()
				}
			}
		}
	}
}

// Described is the service as a plane was told of it, with the servers that
// are in the table but without their MAC addresses. It works on a State that
// came as JSON; the error is of one that another version wrote.
func (s *ServiceState) Described() (dataplane.Service, error) {
	key, err := dataplane.ParseServiceKey(s.Service)
	if err != nil {
		return dataplane.Service{}, err
	}
	svc := dataplane.Service{
		ServiceKey: key, Scheduler: s.Scheduler, SchedulerFlags: s.SchedulerFlags, OnePacket: s.OnePacket, ServerIDLength: s.ServerIDLength,
		Persistence: dataplane.Persistence{Timeout: s.Persistent, PrefixLen: s.PersistentBits, Engine: s.Engine},
	}
	for i := range s.Servers {
		r := &s.Servers[i]
		if !r.InTable {
			continue
		}
		addr, err := netip.ParseAddr(r.Address)
		if err != nil {
			return dataplane.Service{}, fmt.Errorf("service %s: real server: %w", s.Service, err)
		}
		forward, ok := forwards[cmp.Or(r.Forward, dataplane.Gate.String())]
		if !ok {
			return dataplane.Service{}, fmt.Errorf("service %s: real server %s: forward %q", s.Service, addr, r.Forward)
		}
		var id []byte
		if r.ServerID != "" {
			if id, err = hex.DecodeString(r.ServerID); err != nil {
				return dataplane.Service{}, fmt.Errorf("service %s: real server %s: QUIC server ID: %w", s.Service, addr, err)
			}
		}
		svc.Servers = append(svc.Servers, dataplane.RealServer{
			Addr: addr, Weight: r.Effective, Forward: forward,
			Port: r.Port, TunnelPort: r.TunnelPort, Upper: r.Upper, Lower: r.Lower, ServerID: id,
		})
	}
	return svc, nil
}
