package takeover

import "systole/hb/wire"

// peer takes the news that the peer lives or died.
func (m *Machine) peer(p Peer) {
	if p.Deadtime > 0 {
		m.peerDeadtime = p.Deadtime
	}
	if !p.Alive {
		m.peerEnded = p.Ended
		m.peerDead(p.Why)
		return
	}
	m.giveBack()
	m.peerJoining, m.peerGreets = p.Joining, p.Systole
	if m.peerAlive && !p.Returned && !p.Restarted {
		// Its status is known, so from now on we notice if a message of it is
		// lost; an answer that was lost before is not sent again.
		if !m.greeted && (m.state == stateStarting || m.state == stateReceived) {
			m.hello()
		}
		return
	}
	wasDead := !m.peerAlive
	if wasDead || p.Returned || p.Restarted {
		// It may have owned them, too, while we did not hear it, and announced
		// itself last; if its first words show that it does not hold them any
		// more we announce ourselves again (contest).
		m.contested |= m.active
	}
	m.peerAlive, m.peerEver = true, true
	m.clear(timerBelieve)
	m.clear(timerSeize)
	m.peerEnded, m.otherPings = false, -1
	// Before anything is sent that tells the peer that we know it.
	if m.lease != LeaseSuspended {
		m.setLease(LeaseArmed)
	}
	if m.cfg.FailbackDelay > 0 {
		m.set(timerFailback, m.cfg.FailbackDelay)
	}
	if p.Restarted {
		m.newIncarnation()
	} else if wasDead || p.Returned {
		m.otherStable = false // until it says so
	}
	if m.owedReport {
		m.peerStarting(order{})
	}
	if m.state == stateInit || m.state == stateShutdown {
		return
	}
	m.set(timerReport, startWait)
	if m.legacy() {
		m.set(timerLegacy, introduceWait)
	}
	switch {
	case m.lease == LeaseSuspended:
		m.ask()
	case p.Returned && m.peerSystole:
		m.systole(infoClaim)
	case p.Returned:
		m.hello()
		m.starting() // makes an old node report (section 9)
	default:
		m.hello()
	}
}

// newIncarnation: whatever the peer was and promised is gone. What it held is
// decided upon with its first message (see peerSays and peerStarting); until
// then our reports do not call us stable, lest it takes what we take, too.
func (m *Machine) newIncarnation() {
	// Its death, though nobody had to declare it.
	m.flowsLost()
	m.needsFailback = m.needsFailback || m.peerSystole && m.state == stateStable
	m.peerSystole, m.peerReported, m.gone = false, false, false
	m.peerReports, m.asked, m.owed, m.taken = false, nil, nil, false
	m.lastReport, m.lastSays, m.lastAsk, m.lastRefuse = order{}, order{}, order{}, order{}
	m.otherHeld, m.otherStable, m.otherEpochs, m.otherSuspended = None, false, epochs{}, false
	m.firstHello, m.greeted = 0, false
	m.cancelStandby(false, m.cfg.Peer+" restarted")
	m.fresh = m.state == stateStable && m.held != All && !m.stopping
}

// takeOrphans: a Systole peer has restarted and holds nothing; before its
// first beat it let go of what its old incarnation had left. Section 11 would
// leave that without an owner until the peer is stable again.
func (m *Machine) takeOrphans() {
	m.fresh = false
	if m.lease == LeaseSuspended {
		return // who knows what we hold ourselves
	}
	m.needsFailback = true
	m.acquire(All&^m.held, forDeath, m.cfg.Peer+" restarted and holds nothing")
}

func (m *Machine) peerDead(why string) {
	was := m.peerAlive
	m.peerAlive = false
	m.flowsLost()
	switch {
	case m.state == stateInit:
		if m.lease != LeaseNone {
			m.setLease(LeaseUnlimited)
		}
	case !was:
	case m.lives:
		m.believeAt = m.now.Add(2 * m.cfg.Keepalive)
		fallthrough
	case m.now.Before(m.believeAt):
		m.due[timerBelieve] = m.believeAt
	default:
		m.die(m.cfg.Peer + " is dead: " + why)
	}
}

// believe: enough time has passed since our stall for a beat to arrive. If we
// come too late we were stalled again and know nothing, once more; nor do we if
// the peer is back and we are not told yet.
func (m *Machine) believe() {
	if m.peerAlive {
		return
	}
	if m.lives || m.now.Sub(m.believeAt) > m.cfg.Keepalive {
		m.believeAt = m.now.Add(2 * m.cfg.Keepalive)
		m.due[timerBelieve] = m.believeAt
	} else {
		m.die(m.cfg.Peer + " is dead")
	}
}

// die takes over everything, first of all (section 9).
func (m *Machine) die(why string) {
	result := "n_stnth"
	if m.peerReported && m.otherHeld == None {
		result = "unneeded"
	}
	for _, t := range []timer{timerStart, timerReport, timerStandby, timerClaim, timerBelieve, timerAcquire, timerFailback, timerOrphan, timerYield, timerLegacy, timerGiveUp} {
		m.clear(t)
	}
	m.asked, m.owed, m.taken = nil, nil, false
	m.phase, m.failback = phaseIdle, false
	if c := m.contested & m.held; c != None {
		m.emit(Announce{c})
	}
	m.fresh, m.contested, m.resuming, m.failed = false, None, false, None
	m.otherHeld, m.otherStable, m.otherSuspended = None, true, false
	was := m.lease
	if m.cfg.AtMostOne && was == LeaseSuspended {
		m.unsure()
	}
	m.setLease(LeaseUnlimited)
	if m.stopping {
		m.goodbye()
		return
	}
	m.state, m.needsFailback = stateStable, true
	if was == LeaseSuspended && m.held != None {
		m.emit(Announce{m.held})
	}
	m.doubt()
	m.seize(why)
	if m.draining != None && !m.running(timerWithdraw) {
		m.set(timerWithdraw, m.cfg.DrainGrace) // the peer was taking, and we must wait
	}
	m.send(wire.New("stonith", "node", m.cfg.Peer, "result", result))
	m.systole(infoHold) // it may live and hear us though we do not hear it
}

// machDown tells that the peer's groups were taken over; in our words.
func (m *Machine) machDown() {
	if m.legacy() {
		return
	}
	m.send(wire.New("resource", "rsc_hold", Foreign.String(), "info", "mach_down"))
}

// peerShutdone: the peer has let go of everything (section 9): no dead time.
func (m *Machine) peerShutdone(o order) {
	m.lastReport = o
	m.otherHeld, m.otherStable, m.fresh, m.gone = None, true, false, true
	m.peerEnded, m.asked, m.owed, m.taken = true, nil, nil, false
	m.heard()
	if m.stopping || m.state == stateInit {
		return
	}
	m.phase, m.failback = phaseIdle, false
	for _, t := range []timer{timerStandby, timerStart, timerLegacy, timerGiveUp} {
		m.clear(t)
	}
	m.state, m.needsFailback = stateStable, true
	if m.lease == LeaseSuspended {
		m.resume(None)
	}
	if c := All &^ m.held; c != None {
		m.acquire(c, forShutdone, m.cfg.Peer+" shut down")
	}
}
