package flowsync

import (
	"net/netip"
	"time"

	"systole/dataplane"
	"systole/dataplane/flowsync/wire"
)

// The kernel's states that stand for ours: include/net/ip_vs.h.
const (
	tcpEstablished = 1
	tcpSynRecv     = 3
	tcpFinWait     = 4
	tcpLastAck     = 8

	templateAssured = 1 // its client has answered

	sctpInit         = 1
	sctpEstablished  = 8
	sctpShutdownSent = 9
)

var (
	tcpStates  = [8]uint16{dataplane.FlowSyn: tcpSynRecv, dataplane.FlowEstablished: tcpEstablished, dataplane.FlowFin: tcpFinWait}
	sctpStates = [8]uint16{dataplane.FlowSyn: sctpInit, dataplane.FlowEstablished: sctpEstablished, dataplane.FlowFin: sctpShutdownSent}
)

// toEntry is a flow as a message has it. What is left of its life is rounded up
// to seconds: it goes on at the other side where it is here. The method of
// forwarding is the gate's; a kernel that has the server takes its own. False:
// no message can say it, for it has two address families, or is the template of
// a range of ports, which IPVS has not.
func toEntry(f dataplane.Flow) (wire.Entry, bool) {
	if v6 := f.Client.Addr().Is6(); f.Service.VIP.Is6() != v6 || f.Server.Is6() != v6 ||
		f.State == dataplane.FlowTemplate && f.Service.LastPort != 0 {
		return wire.Entry{}, false
	}
	port := f.Port
	if port == 0 {
		port = f.Service.Port
	}
	e := wire.Entry{
		Protocol: uint8(f.Service.Protocol),
		Flags:    wire.ForwardGate | wire.NoOutput,
		Client:   f.Client,
		VIP:      netip.AddrPortFrom(f.Service.VIP, port),
		Server:   netip.AddrPortFrom(f.Server, port),
		Mark:     f.Service.Mark,
		Timeout:  uint32((f.Expires + time.Second - 1) / time.Second),
	}
	if f.State == dataplane.FlowTemplate {
		e.Flags, e.State = wire.ForwardGate|wire.Template, templateAssured
		return e, true
	}
	switch f.Service.Protocol {
	case dataplane.TCP:
		e.State = tcpStates[f.State&7]
	case dataplane.SCTP:
		e.State = sctpStates[f.State&7]
	}
	if f.State != dataplane.FlowEstablished {
		e.Flags |= wire.Inactive
	}
	return e, true
}

// fromEntry is the flow of a connection; false if it is none that a flow table
// can hold: another protocol (templates of firewall marks have none), a state
// that is none.
func fromEntry(e *wire.Entry) (dataplane.Flow, bool) {
	f := dataplane.Flow{
		Client:  e.Client,
		Service: dataplane.ServiceKey{VIP: e.VIP.Addr(), Port: e.VIP.Port(), Protocol: dataplane.Protocol(e.Protocol)},
		Port:    e.VIP.Port(),
		Server:  e.Server.Addr(),
		Expires: time.Duration(e.Timeout) * time.Second,
	}
	template := e.Flags&wire.Template != 0
	if _, bad := e.Unknown(); bad || template != (e.Client.Port() == 0) {
		return f, false
	}
	if template {
		f.State, f.Port = dataplane.FlowTemplate, 0
		switch f.Service.Protocol {
		case dataplane.TCP, dataplane.UDP, dataplane.SCTP:
			return f, e.State <= templateAssured
		}
		return f, false
	}
	established, last := uint16(tcpEstablished), uint16(10)
	switch f.Service.Protocol {
	case dataplane.UDP:
		f.State = dataplane.FlowUDP
		return f, true
	case dataplane.TCP:
		if e.State >= tcpFinWait && e.State <= tcpLastAck {
			f.State = dataplane.FlowFin
		}
	case dataplane.SCTP:
		established, last = sctpEstablished, 13
		if e.State > sctpEstablished {
			f.State = dataplane.FlowFin
		}
	default:
		return f, false
	}
	switch {
	case e.State == established:
		f.State = dataplane.FlowEstablished
	case f.State == 0:
		f.State = dataplane.FlowSyn
	}
	return f, e.State <= last
}
