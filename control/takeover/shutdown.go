package takeover

import "systole/hb/wire"

// shutdown hands over what we hold, then stops. The second one does not wait.
func (m *Machine) shutdown() {
	if m.stopping {
		m.stopNow()
		return
	}
	m.stopping, m.fresh = true, false
	if m.kept != None {
		m.release(m.kept, false, forStop, "shutting down")
	}
	if m.state == stateInit {
		m.goodbye()
		return
	}
	m.set(timerStop, stopWait)
	if m.phase == phaseIdle {
		m.nextStop()
	} // else when the hand-over under way has ended
}

// nextStop hands the rest over by the planned way, if there is one.
func (m *Machine) nextStop() {
	if m.held == None || m.startStandby(All) != nil {
		m.goodbye()
	}
}

// goodbye is the original's stop (section 11): release all, shutdone; the peer
// takes what it has not at once. While a peer lives, packets are forwarded on
// until it surely has announced itself.
func (m *Machine) goodbye() {
	if m.state == stateShutdown {
		return
	}
	m.state = stateShutdown
	m.phase = phaseIdle
	for _, t := range []timer{timerStart, timerReport, timerStandby, timerFailback, timerClaim, timerBelieve, timerAcquire, timerOrphan, timerYield, timerStop, timerSeize, timerLegacy, timerGiveUp} {
		m.clear(t)
	}
	if m.held != None {
		m.release(m.held, m.peerAlive, forStop, "shutting down")
	}
	m.report("shutdown")
	if m.answering() == None {
		m.sayShutdone()
	}
}

// sayShutdone: nothing is held any more.
func (m *Machine) sayShutdone() {
	if m.said {
		return
	}
	m.said = true
	m.answerRequests()
	m.send(wire.New("shutdone", "st", "dead"))
	if m.draining != None && m.peerAlive {
		m.set(timerWithdraw, m.cfg.DrainGrace)
		return
	}
	m.withdraw()
}

// stopNow is for an operator who has asked twice.
func (m *Machine) stopNow() {
	if c := m.held | m.releasing | m.draining; c != None {
		m.release(c, false, forStop, "stopped at once")
	}
	if !m.said {
		m.state = stateShutdown
		m.report("shutdown")
		m.send(wire.New("shutdone", "st", "dead"))
	}
	m.stop()
}

// maybeStop: all is said and nothing is left. Behind the fence we stay until
// every address is gone: without us it would fall some day.
func (m *Machine) maybeStop() {
	if m.said && !m.stopped && m.draining == None && m.releasing == None {
		m.stop()
	}
}

func (m *Machine) stop() {
	m.stopped = true
	m.emit(Stopped{})
}
