package takeover

import (
	"strconv"

	"systole/hb/wire"
)

// peerSays takes a message of another Systole director.
func (m *Machine) peerSays(msg wire.Message) error {
	r, err := parseReport(msg)
	if err != nil {
		return err
	}
	if !m.peerSystole {
		m.peerSystole = true
		m.info("%s is a Systole director", m.cfg.Peer)
		m.notLegacy()
		m.clear(timerOrphan) // the wait for an old node is longer: see audit
		if m.lease == LeaseSuspended {
			m.ask()
		}
		if m.phase == phaseGiving || m.phase == phasePromised {
			m.set(timerStandby, askedWait) // not an hour
		}
	}
	newest := r.after(m.lastReport)
	if newest {
		m.lastReport = r.order
		m.otherHeld = r.held
		m.heard()
		if m.fresh {
			m.fresh = false
			if r.held == None {
				m.takeOrphans()
			} else {
				m.report("") // stable again
			}
		}
	} else {
		m.overtaken(r)
	}
	if r.after(m.lastSays) {
		m.lastSays = r.order
		m.otherEpochs, m.otherSuspended, m.otherPings = r.epochs.inverse(), r.suspended, r.pings
		m.seen = max(m.seen, r.epochs.latest())
		m.contest(r.info)
	}
	if newest {
		m.setOtherStable(r.stable)
	}
	if m.firstHello != 0 && r.re >= m.firstHello {
		m.greeted = true
	} else if r.info != infoHold && !m.greeted && (m.state == stateStarting || m.state == stateReceived) {
		m.hello() // ours came when it did not know yet that we live
	}
	if m.lease == LeaseSuspended && !m.resuming && r.re != 0 && r.re == m.lastClaim && m.now.Sub(m.claimedAt) <= 2*m.cfg.Keepalive {
		m.answered()
	}
	if r.re != 0 && r.re == m.adoptClaim {
		m.adoptAnswered()
	}
	if r.info == infoRefuse && r.after(m.lastRefuse) {
		m.lastRefuse = r.order
		// Overtaken by a newer word of the peer it may still be the answer to
		// our question; nothing is lost if it was not.
		if r.after(m.lastAsk) || m.phase == phaseAsked {
			m.cancelStandby(false, m.cfg.Peer+" refuses")
		}
	}
	if r.info == infoHello || r.info == infoClaim {
		m.answer(r)
		if !r.suspended {
			m.ask() // it hears us now; it may not have before
		}
	}
	m.settle()
	return nil
}

// answer tells what we hold; re is the number of the question. Who asks is
// alive: it must not be declared dead because its beats are slower than its
// question, and find its groups taken over after we said they were its own.
func (m *Machine) answer(r reportMsg) {
	if r.suspended {
		m.believeAt = m.now.Add(2 * m.cfg.Keepalive)
	}
	if r.n == 0 {
		m.systole(infoHold)
		return
	}
	m.systole(infoHold, "re", strconv.FormatUint(r.n, 16))
}

// contest decides about classes that both hold, the same way on both sides:
// the higher epoch is the later owner, the one the clients know; between equal
// ones the preferred node wins. The loser lets go on hearing a winner that
// holds, so somebody always does.
//
// What the peer holds is what its newest report of any kind says; its epoch
// comes with its newest systole message.
func (m *Machine) contest(info string) {
	m.regain()
	both := m.held & m.otherHeld
	if both == None || m.lease == LeaseSuspended { // then only an answer counts
		return
	}
	lost := weaker(both, m.epochs, m.otherEpochs)
	if m.otherSuspended {
		lost = None
	}
	m.warn("both directors hold %s: epochs (local/foreign) %s here, %s at %s", both, m.epochs, m.otherEpochs, m.cfg.Peer)
	if lost != None {
		m.lose(lost, m.cfg.Peer+" is the later owner")
	}
	if won := both &^ lost; won != None {
		m.contested |= won
		m.emit(Announce{won})
		if info == infoHold || info == infoRefuse { // else it is answered anyway
			m.systole(infoHold)
		}
	}
}

// lose lets go of groups that the peer owns, at once and for good.
func (m *Machine) lose(c Class, why string) {
	if m.phase == phaseAsked {
		m.cancelStandby(true, why)
	}
	if c&Foreign != 0 {
		m.needsFailback = false // the peer has its own already
	}
	m.release(c, false, forLose, why)
}

// peerBuried: the peer has taken us for dead and owned everything, for however
// short a time. It may have let go, and its words of that may have overtaken this
// one; if not, its next report decides.
func (m *Machine) peerBuried(msg wire.Message) {
	if node, _ := msg.Get("node"); node != m.cfg.Node {
		return
	}
	m.contested |= m.active
	if !orderOf(msg).after(m.lastReport) {
		m.regain()
	}
}

// overtaken takes an old report of the peer: if it says that it held what we own
// and it does not any more, it may have announced it after us.
func (m *Machine) overtaken(r reportMsg) {
	if r.generation == m.lastReport.generation {
		m.contested |= r.held & m.active &^ m.otherHeld
		m.regain()
	}
}

// regain announces what the peer owned, too, and holds no more by its newest
// report: its last ARP answers may be younger than our announcement.
func (m *Machine) regain() {
	gone := m.contested &^ m.otherHeld
	if gone == None {
		return
	}
	m.contested &^= gone
	m.emit(Announce{gone})
	m.info("%s does not hold %s: announced again", m.cfg.Peer, gone)
}
