package xdp

// ReasonNames are the names of the reasons by their numbers in the program: the
// keys of dataplane.Stats.Reasons.
func ReasonNames() []string { return append([]string(nil), reasonNames[:]...) }

// ExplainReason is what became of a packet, and why, in a few words; "" for a
// reason that is not known.
func ExplainReason(name string) string { return explanations[name] }

var explanations = map[string]string{
	"lease_ended":     "dropped: the right to the address ran out",
	"arp_lease_ended": "dropped: ARP request, the right to the address ran out",
	"arp_draining":    "dropped: ARP request for an address that was let go",
	"nd_lease_ended":  "dropped: neighbour solicitation, the right to the address ran out",
	"nd_draining":     "dropped: neighbour solicitation for an address that was let go",
	"standby":         "passed: another director's address",
	"other_protocol":  "passed: not of a protocol that is forwarded",
	"fragment":        "passed: a fragment that came before its first",
	fragmentSentOn:    "sent on by the daemon: such a fragment, when its first had come",
	"malformed":       "passed: lengths contradict each other",
	"no_service":      "passed: no service on this port",
	"no_server":       "passed: no eligible real server",
	"no_flow":         "passed: TCP segment without a flow, and no SYN",
	"server_gone":     "passed: TCP segment whose real server has left",
	"peer_no_flow":    "passed: sent by a peer, no flow here either",
	"second_chance":   "sent to a peer, which may have its flow",
	"no_mac":          "dropped: the real server's MAC address is not known",
	"syn_evicted":     "new flow in the place of one on probation",
	"flow_evicted":    "new flow in the place of a living one",
	"flow_not_stored": "forwarded, but its flow could not be stored",
	"flow_limit":      "forwarded without a flow: too many new ones",
	"other_interface": "passed: the real server is behind none of the data plane's interfaces",
	"interface_gone":  "dropped: the interface to the real server is gone",
	"no_redirect":     "passed: the interface to the real server takes no frames from native XDP",
	"tunnelled":       "forwarded in a tunnel to the real server",
	"tunnel_too_big":  "answered: too big for the tunnel, the sender is told how much fits",
	"tunnel_silent":   "dropped: too big for the tunnel, and the sender cannot be told: too many such packets, or no address",
	"tunnel_fragment": "passed: too big for the tunnel, but it may be fragmented, which XDP cannot",
	"tunnel_no_room":  "dropped: the driver leaves no room for an outer header",
	"quic_kept":       "forwarded by the connection's ID: the client of a QUIC connection has another address",
	"quic_unknown":    "scheduled: its QUIC connection ID names no real server",
}
