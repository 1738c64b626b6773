package takeover

import (
	"strconv"

	"systole/hb/wire"
)

func (m *Machine) setLease(mode LeaseMode) {
	if mode = m.clamp(mode); m.lease != mode {
		m.lease = mode
		m.emit(Lease{mode})
	}
}

// lapsed: we were stalled for longer than our lease. The data plane has
// stopped by itself; if the peer lives it has taken over, or is about to.
func (m *Machine) lapsed() {
	switch {
	case m.lease == LeaseSuspended || m.fenced:
		return
	case m.cfg.AtMostOne && !m.peerAlive:
		m.unsure()
		m.grantAgain(LeaseUnlimited)
		if m.state != stateInit && !m.stopping {
			m.seize("stalled alone")
		}
		return
	case !m.peerEver:
		m.grantAgain(LeaseUnlimited)
		return
	case m.held == None && !m.peerAlive:
		// Nothing that somebody could have taken. (A live peer is asked all the
		// same: what waits to be read may be as old as our stall, and make us
		// take what it has taken since.)
		m.believeAt = m.now.Add(2 * m.cfg.Keepalive)
		m.grantAgain(LeaseUnlimited)
		return
	}
	m.warn("stalled for longer than the lease: asking %s who owns what", m.cfg.Peer)
	m.setLease(LeaseSuspended)
	m.believeAt = m.now.Add(2 * m.cfg.Keepalive)
	m.quietUntil = m.now.Add(yieldWaitOld)
	m.lastClaim = 0
	if m.phase == phaseAsked {
		m.cancelStandby(true, "stalled")
	}
	if m.peerAlive {
		m.ask()
	} else {
		m.due[timerBelieve] = m.believeAt
	}
}

// grantAgain repeats the mode: the data plane has stopped and must be told.
func (m *Machine) grantAgain(mode LeaseMode) {
	mode = m.clamp(mode)
	m.lease = mode
	m.emit(Lease{mode})
	if m.held != None {
		m.emit(Announce{m.held})
	}
}

// ask puts the question of a suspended director, until it is answered or the
// peer is dead.
func (m *Machine) ask() {
	if m.lease != LeaseSuspended || m.resuming || !m.peerAlive || m.stopping {
		return
	}
	if m.peerSystole {
		m.claim++
		m.lastClaim, m.claimedAt = m.claim, m.now
		m.systole(infoClaim, "n", strconv.FormatUint(m.claim, 16))
		m.set(timerClaim, claimRetry)
		return
	}
	if m.legacy() {
		m.askLegacy()
		return
	}
	// An old node answers "starting" with what it holds (section 9).
	m.hello()
	m.send(wire.New("starting"))
	m.otherStable = false
	m.set(timerClaim, claimRetryOld)
}

// answered: the peer has answered the last question, and not so long ago that
// it may have declared us dead since: we were not stalled again in between. Who
// is suspended loses to who is not.
func (m *Machine) answered() {
	lost := m.held & m.otherHeld
	if m.otherSuspended {
		lost = weaker(lost, m.epochs, m.otherEpochs)
	}
	m.resume(lost)
}

// resume ends the suspension: lost is the peer's now, the rest is ours. The
// lease is not armed before the lost is released.
func (m *Machine) resume(lost Class) {
	m.clear(timerClaim)
	m.clear(timerBelieve)
	m.resuming = true
	if lost != None {
		m.lose(lost, "stalled, and "+m.cfg.Peer+" has taken over")
	}
	m.rearm()
}

// rearm ends the suspension when nothing is being released any more.
func (m *Machine) rearm() {
	if !m.resuming || m.fenced || m.releasing&^m.draining != None {
		return
	}
	m.resuming = false
	if m.peerAlive {
		m.setLease(LeaseArmed)
	} else {
		m.setLease(LeaseUnlimited)
	}
	if m.held != None {
		m.emit(Announce{m.held})
	}
	m.info("lease %s again, holding %s", m.lease, m.held)
	m.systole(infoHold) // not suspended any more
}
