package takeover

import "systole/hb/wire"

// joined: we are active (section 8), so resources may run.
func (m *Machine) joined() {
	if m.state != stateInit || m.stopping {
		return
	}
	m.state = stateStarting
	m.peerReported = false // what was said to us before may be outdated
	if !m.peerAlive {
		m.starting()
		m.die("alone: " + m.cfg.Peer + " was not heard")
		return
	}
	m.setLease(LeaseArmed)
	m.hello()
	m.starting()
	m.set(timerReport, startWait)
	if m.legacy() {
		m.startLegacy()
	}
}

// peerStarting answers "starting" with a report (section 9).
func (m *Machine) peerStarting(o order) {
	m.owedReport = false
	if o.after(m.lastReport) { // else it has become stable since
		m.otherStable = false
	}
	if m.fresh {
		if m.fresh = false; m.peerSystole {
			m.takeOrphans()
		} else if c := Local &^ m.held; c != None && m.lease != LeaseSuspended {
			// It is told below that its groups are free and takes them itself;
			// what it had of ours nobody has now.
			m.acquire(c, forDeath, m.cfg.Peer+" restarted")
		}
	}
	m.report("")
	m.received()
}

// received: a resource report was seen, our own included.
func (m *Machine) received() {
	if m.state == stateStarting {
		m.state = stateReceived
		m.set(timerStart, startWait)
	}
}

// peerResource takes a resource report (section 9).
func (m *Machine) peerResource(msg wire.Message) error {
	r, err := parseReport(msg)
	if err != nil {
		return err
	}
	if r.full {
		if !r.after(m.lastReport) {
			m.overtaken(r)
			return nil
		}
		m.lastReport = r.order
		m.otherHeld = r.held
		m.contested |= m.active & r.held
		m.regain()
	} else if m.peerSystole || !r.after(m.lastReport) {
		return nil // a full report says it better, and in order
	} else if r.held == None {
		m.otherHeld = None
	} else {
		m.otherHeld |= r.held
	}
	m.heard()
	m.received()
	if r.hasStable {
		m.setOtherStable(r.stable)
	}
	if r.full && !m.peerSystole {
		m.oldReport()
	}
	m.settle()
	return nil
}

// heard: the peer has reported in its present incarnation.
func (m *Machine) heard() {
	m.peerReported = true
	m.clear(timerReport)
}

// setOtherStable answers the news that the peer is stable with our report.
func (m *Machine) setOtherStable(on bool) {
	was := m.otherStable
	m.otherStable = on
	if on && !was && m.state != stateInit {
		m.report("")
		if m.otherPings < 0 {
			m.askPings()
		}
	}
}

// settle makes us stable when what the peer said allows it: it is stable; or,
// between two Systole directors, it has nothing either: then each may take its
// own at once.
func (m *Machine) settle() {
	if m.state != stateReceived && m.state != stateStarting || !m.peerReported || m.stopping {
		return
	}
	if (m.peerSystole || m.peerGreets) && !m.greeted {
		return // what we know may have been said to our old incarnation
	}
	if m.otherStable || m.peerSystole && m.state == stateReceived && m.otherHeld == None {
		m.becomeStable()
	}
}

// startOver: ten seconds have passed and the peer is not stable (section 9).
func (m *Machine) startOver() {
	if m.state == stateReceived {
		m.becomeStable()
	}
}

func (m *Machine) becomeStable() {
	m.state = stateStable
	m.clear(timerStart)
	m.clear(timerReport)
	if c := Local &^ (m.held | m.otherHeld); c != None {
		m.acquire(c, forStart, "our local groups, "+m.cfg.Peer+" does not hold them")
	}
	m.report("")
	m.systole(infoHold)
}

// reportOverdue: an alive peer has said nothing for ten seconds.
func (m *Machine) reportOverdue() {
	if !m.peerAlive || m.stopping || m.legacy() || m.state == stateStable && m.peerSystole {
		return
	}
	m.warn("%s does not say what it holds, asking again: if it is an old heartbeat with auto_failback legacy, write cluster.auto_failback: legacy here, too", m.cfg.Peer)
	m.hello()
	m.starting()
	m.otherStable = false
	m.set(timerReport, startWait)
}

// oldReport resolves what a report of an old node contradicts. Such a node
// never lets go because of what we say; if it saw us dead, too, it restarts
// itself two seconds later and all is ours (section 11). So it keeps what is
// its own by preference, and we keep ours until yield.
func (m *Machine) oldReport() {
	if m.lease == LeaseSuspended {
		if m.now.Before(m.believeAt) {
			// It may have waited in our socket since before we were declared
			// dead: ask again when all that was there has been read.
			m.due[timerClaim] = m.believeAt
			return
		}
		m.resume(m.held & m.otherHeld)
		return
	}
	if c := m.held & m.otherHeld & Foreign; c != None && m.phase == phaseIdle {
		m.lose(c, m.cfg.Peer+" holds its own groups, too")
		m.needsFailback = false
	}
}
