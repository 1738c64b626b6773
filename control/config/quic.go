package config

import (
	"encoding/hex"
	"fmt"
	"strings"

	"systole/dataplane"
)

// QUIC says where a QUIC connection ID names the real server that chose it. Its
// first byte is the server's own, its ID follows: the plaintext form of QUIC-LB
// (draft-ietf-quic-load-balancers).
type QUIC struct {
	ServerIDLength int // bytes, 1 to 8; 0: connections go by addresses alone; key: server_id_length
}

// String is "server IDs of 4 bytes"; "none".
func (q QUIC) String() string {
	if q.ServerIDLength == 0 {
		return "none"
	}
	return "server IDs of " + count(q.ServerIDLength, "byte")
}

// ID is ServerID as it stands in a connection ID; nil if there is none.
func (s *Server) ID() []byte {
	if s.ServerID == "" {
		return nil
	}
	b, _ := hex.DecodeString(s.ServerID) // as it was read
	return b
}

// named is how the summary says a server's ID.
func (s *Server) named() string {
	if s.ServerID == "" {
		return ""
	}
	return ", server ID " + s.ServerID
}

// badQUIC is a length of which has been said that it is wrong.
const badQUIC = -1

// quic reads whether connections go by their IDs. The protocol, one_packet and
// persistent have been read.
func (d *decoder) quic(e *mapping, s *Service) {
	if !e.has("quic") {
		e.asked = append(e.asked, "quic")
		return
	}
	m := e.sub("quic")
	n := need(m, "server_id_length", "how many bytes of a connection ID are the server's, such as server_id_length: 4", number(1, dataplane.MaxServerID))
	m.done()
	s.QUIC.ServerIDLength = n.val
	switch {
	case n.bad:
	case s.FWMark != 0:
		d.errorf(n.at, "quic has no effect with fwmark, whose packets only IPVS carries: remove one of them")
	case s.Protocol != "udp":
		d.errorf(n.at, "quic is for udp: remove it, or write protocol: udp")
	case s.OnePacket:
		d.errorf(n.at, "quic keeps a connection on its server, one_packet sends each datagram to another: remove one of them")
	case s.Persistent.Timeout != 0:
		d.errorf(n.at, "quic keeps a connection on its server, persistent all of a client address: remove one of them")
	default:
		return
	}
	s.QUIC.ServerIDLength = badQUIC
}

// serverID reads what a real server writes into its connection IDs. before are
// the servers that were read before it.
func (d *decoder) serverID(e *mapping, s *Service, srv *Server, before []Server) {
	n := s.QUIC.ServerIDLength
	var id field[string]
	if n > 0 {
		id = need(e, "server_id", "the bytes by which its QUIC connection IDs name it, such as server_id: "+strings.Repeat("0a", n), hexBytes)
	} else {
		id = read(e, "server_id", "", hexBytes)
	}
	switch {
	case !id.set || n == badQUIC:
		return
	case n == 0:
		d.errorf(id.at, "server_id has no effect in a service without quic: remove it, or write quic: {server_id_length: %d}", min(len(id.val)/2, dataplane.MaxServerID))
		return
	case len(id.val) != 2*n:
		d.errorf(id.at, "server_id: %s has %s, server_id_length is %d: write %d hexadecimal digits", id.val, count(len(id.val)/2, "byte"), n, 2*n)
		return
	}
	srv.ServerID = id.val
	for _, o := range before {
		if o.ServerID == id.val {
			d.errorf(id.at, "server_id: %s is that of %s already: give each server its own", id.val, o.Addr)
			return
		}
	}
}

// hexBytes is bytes in hexadecimal, which YAML may take for a number.
func hexBytes(s scalar) (string, error) {
	if b, err := hex.DecodeString(s.text); err != nil || len(b) == 0 {
		return "", fmt.Errorf("%q is no string of bytes: write each as two hexadecimal digits, such as 0a0b0c0d", s.text)
	}
	return strings.ToLower(s.text), nil
}
