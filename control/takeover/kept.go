package takeover

// A director that is alone has an unlimited lease: its data plane goes on when
// its daemon dies, for nobody would serve in its place. Nor would anybody while
// the next daemon waits for the peer that is not there (initdead). So that one
// leaves things as they are: it owns nothing, promises nothing and takes nothing
// from anybody, but ends nothing either. It ends with the first thing heard of the
// peer, before that is looked at; the start is the ordinary one then. If nothing
// is heard what is kept is acquired at the end of the wait, like all the rest.

// keep takes the first input. With AtMostOne no lease is unlimited; what is
// found then is of another configuration. With Legacy the other one takes who is
// not active yet for one who holds nothing, and asks nobody (startLegacy).
func (m *Machine) keep(c Class) {
	switch {
	case m.state != stateInit || m.lease != LeaseNone || m.held|m.releasing != None:
		m.warn("%s is kept, but not told first: ignored", c)
	case c == None:
	case m.cfg.AtMostOne || m.cfg.Legacy || m.stopping || m.peerEver:
		m.release(c, false, forOwner, "left by an earlier daemon")
	default:
		m.kept = c
		m.why = "kept as an earlier daemon has left it"
		m.info("%s was served alone by an earlier daemon: it is, until %s is heard or known to be absent", c, m.cfg.Peer)
		m.setLease(LeaseUnlimited)
	}
}

// giveBack: the peer is heard, and it may own what we kept.
func (m *Machine) giveBack() {
	if c := m.kept; c != None {
		m.release(c, false, forOwner, m.cfg.Peer+" is heard: asking who owns what")
	}
}
