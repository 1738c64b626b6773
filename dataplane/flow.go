package dataplane

import (
	"net/netip"
	"time"
)

// FlowState is the life of a flow as far as the client's half of it shows it.
type FlowState uint8

// The states.
const (
	FlowSyn         FlowState = iota + 1 // a SYN and nothing else yet
	FlowEstablished                      // the client acknowledged something
	FlowFin                              // the client sent FIN or RST
	FlowUDP                              // datagrams: no states
	FlowTemplate                         // no connection: the server of a persistent client (or network), whose port is 0
)

// String is the state as IPVS names it: "SYN_RECV", "ESTABLISHED", "FIN_WAIT",
// "UDP"; of a template "NONE".
func (s FlowState) String() string {
	switch s {
	case FlowSyn:
		return "SYN_RECV"
	case FlowEstablished:
		return "ESTABLISHED"
	case FlowFin:
		return "FIN_WAIT"
	case FlowUDP:
		return "UDP"
	}
	return "NONE"
}

// Flow is one client connection of a service and the real server that has it.
type Flow struct {
	Client  netip.AddrPort
	Service ServiceKey
	Port    uint16 // the client's destination port: the service's, or one of its range
	Server  netip.Addr
	State   FlowState
	Age     time.Duration // since its last packet
	Expires time.Duration // until it is forgotten
}
