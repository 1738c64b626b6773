package takeover

import "time"

// At most one (Config.AtMostOne): without quorum nothing is owned, and who has
// it waits until the other's lease has surely ended. See doc.go for the
// argument.

// surrender is how long a peer that we do not hear may still serve. It is told
// that it has no quorum within its patience with us, which is our dead time; if
// it stands still just then, its lease runs for another dead time of its own.
// Two keepalives are for a beat that it sends on waking, before it is told.
func (m *Machine) surrender() time.Duration {
	theirs := m.peerDeadtime
	if theirs == 0 {
		theirs = m.cfg.Deadtime
	}
	return m.cfg.Deadtime + theirs + 2*m.cfg.Keepalive
}

// mayOwn says whether anything may be acquired.
func (m *Machine) mayOwn() bool { return !m.fenced && (!m.cfg.AtMostOne || m.quorum) }

// clamp is the lease that may be granted where mode would fit.
func (m *Machine) clamp(mode LeaseMode) LeaseMode {
	switch {
	case m.fenced:
		return LeaseFenced
	case !m.cfg.AtMostOne || mode == LeaseNone:
		return mode
	case !m.quorum:
		return LeaseNone
	case mode == LeaseUnlimited:
		return LeaseArmed // it must end if we stand still
	}
	return mode
}

func (m *Machine) quorumChanged(q Quorum) {
	if !m.cfg.AtMostOne || q.Have == m.quorum {
		m.quorum = q.Have
		return
	}
	m.quorum = q.Have
	if !q.Have {
		m.error("quorum lost: letting go of %s (cluster.partition is at-most-one)", m.held|m.draining)
		m.letGo("no quorum")
		return
	}
	m.info("quorum gained")
	m.doubt()
	if m.state == stateInit || m.stopping {
		return
	}
	if m.lease == LeaseNone {
		m.setLease(LeaseArmed)
	}
	if !m.peerAlive || m.gone {
		m.seize(m.cfg.Peer + " is dead, and we have the quorum")
	} else {
		m.report("") // what nobody holds is taken when both have settled
		m.systole(infoHold)
	}
}

// letGo ends everything at once, the data plane first.
func (m *Machine) letGo(why string) {
	m.clear(timerSeize)
	m.clear(timerClaim)
	m.clear(timerAcquire)
	m.resuming, m.failed = false, None // what nobody holds is decided anew with the quorum
	m.setLease(LeaseNone)
	if m.phase != phaseIdle {
		m.cancelStandby(true, why)
	}
	if m.draining != None && m.state != stateShutdown {
		m.emit(Withdraw{m.draining})
		m.drained(All)
	}
	if m.held != None {
		m.release(m.held, false, forQuorum, why)
	}
}

// doubt begins the wait anew: from now on the peer may still serve for so long.
func (m *Machine) doubt() {
	if at := m.now.Add(m.surrender()); !m.peerEnded && at.After(m.clearAt) {
		m.clearAt = at
	}
}

// seize takes everything from a dead peer, now or when it has surely stopped.
func (m *Machine) seize(why string) {
	m.clear(timerSeize)
	if m.cfg.AtMostOne {
		switch {
		case !m.quorum:
			m.warn("%s: nothing is taken without quorum (cluster.partition is at-most-one)", why)
			return
		case !m.peerEnded && m.now.Before(m.clearAt):
			m.seizeWhy = why
			m.due[timerSeize] = m.clearAt
			m.info("%s: waiting %v, until its lease has surely ended", why, m.clearAt.Sub(m.now).Round(time.Millisecond))
			return
		}
	}
	if m.fenced {
		m.fenced, m.stuck, m.stuckWhy = false, nil, ""
		m.clear(timerRelease)
		m.setLease(LeaseUnlimited)
	}
	if c := All &^ m.held; c != None {
		m.acquire(c, forDeath, why)
	}
}

// unsure: we stood still with nobody to ask who owns what. Another one may
// have got the quorum and taken over.
func (m *Machine) unsure() {
	m.peerEnded = false
	m.doubt()
	if m.held != None {
		m.release(m.held, false, forQuorum, "stalled, and nobody knows who owns what")
	}
}
