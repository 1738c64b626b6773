package takeover

import (
	"errors"
	"fmt"
	"time"

	"systole/hb/wire"
)

// ready says why no hand-over can begin now.
func (m *Machine) ready() error {
	switch {
	case m.state == stateShutdown:
		return ErrStopping
	case m.cfg.AtMostOne && !m.quorum:
		return ErrNoQuorum
	case m.state != stateStable || m.fresh:
		return ErrNotStable
	case !m.peerAlive || m.gone:
		return ErrNoPeer
	case m.legacy():
		return ErrLegacy
	case !m.otherStable:
		return ErrPeerNotStable
	case m.phase != phaseIdle:
		return ErrBusy
	case m.lease == LeaseSuspended || m.otherSuspended:
		return ErrSuspended
	case m.held&m.otherHeld != 0:
		return ErrContested
	}
	return nil
}

// orderStandby is hb_standby.
func (m *Machine) orderStandby(c Class) {
	err := m.ready()
	switch {
	case m.stopping:
		err = ErrStopping
	case err == nil && c&m.held == None:
		err = fmt.Errorf("%w: this director holds %s", ErrNothing, m.held)
	}
	if err != nil {
		m.emit(Refused{fmt.Errorf("standby %s refused: %w", c, err)})
		return
	}
	m.startStandby(c)
}

// orderTakeover is hb_takeover: the peer is asked to stand by.
func (m *Machine) orderTakeover(c Class) {
	err := m.ready()
	switch {
	case m.stopping:
		err = ErrStopping
	case m.fenced:
		err = ErrFenced
	case err == nil && c&^m.held == None:
		err = fmt.Errorf("%w: this director holds %s already", ErrNothing, m.held)
	}
	if err != nil {
		m.emit(Refused{fmt.Errorf("takeover %s refused: %w", c, err)})
		return
	}
	m.send(wire.New("hb_takeover", "rsc_hold", c.String()))
}

// startStandby begins to hand c over (section 10, X).
func (m *Machine) startStandby(c Class, kv ...string) error {
	if err := m.ready(); err != nil {
		return err
	}
	m.phase, m.class, m.given, m.handed = phaseAsked, c, None, false
	m.set(timerStandby, askedWait)
	m.askResources(c, "me", kv...)
	return nil
}

// peerAsks takes an ask_resources message.
func (m *Machine) peerAsks(msg wire.Message) error {
	word, _ := msg.Get("rsc_hold")
	c, err := ParseClass(word)
	if err != nil {
		return fmt.Errorf("field rsc_hold: %w", err)
	}
	info, _ := msg.Get("info")
	o := orderOf(msg)
	// A peer that begins the next hand-over as soon as it has taken may be heard in
	// the wrong order: what follows its "other" ends this one, whatever came since.
	ends := info == "done" && m.phase == phaseGiving && m.handed && o.after(m.agreed)
	if !o.after(m.lastAsk) && !ends {
		return nil // a late or double one: its hand-over is over
	}
	switch {
	case ends && !o.after(m.lastAsk):
	case info == "me", info == "other", info == "done":
		m.lastAsk = o
	default:
		return fmt.Errorf("field info: %q: want me, other or done", info)
	}
	switch {
	case info == "me":
		from, _ := msg.Get("from_id")
		m.promise(c.Inverse(), from == ipfailID)
	case info == "other" && m.phase == phaseAsked && c == m.class:
		m.agreed = o
		m.give()
	case info == "done" && m.phase == phasePromised && c.Inverse() == m.class:
		// Older reports of the peer still show what it has let go.
		switch {
		case o.after(m.lastReport):
			m.lastReport = o
			m.otherHeld &^= m.class
		case m.otherHeld&m.class != None:
			m.cancelStandby(false, m.cfg.Peer+" has taken it back")
			return nil
		}
		m.take()
	case info == "done" && m.phase == phaseGiving && m.handed:
		if o.after(m.lastReport) {
			m.lastReport = o
			m.otherHeld |= m.class
		}
		m.finishGive()
	case m.state == stateShutdown:
	default:
		m.info("ask_resources %s from %s does not fit (%s), ignored", info, m.cfg.Peer, m.phase)
		m.systole(infoRefuse)
	}
	return nil
}

// promise answers "me" (section 10, Y); c in our words. givenUp: the peer has
// lost its ping nodes.
func (m *Machine) promise(c Class, givenUp bool) {
	if m.phase == phasePromised && m.peerSystole {
		m.cancelStandby(false, m.cfg.Peer+" begins anew")
	}
	err := m.ready()
	switch {
	case m.stopping:
		err = ErrStopping
	case m.fenced:
		err = ErrFenced
	}
	if err != nil {
		m.warn("%s wants to hand over %s, ignored: %v", m.cfg.Peer, c.Inverse(), err)
		m.systole(infoRefuse)
		if errors.Is(err, ErrPeerNotStable) && m.peerSystole {
			m.hello() // it thinks it is, since it asks: let it say so
		}
		return
	}
	if givenUp {
		m.peerGivesUp()
	}
	m.phase, m.class, m.given = phasePromised, c, None
	m.set(timerStandby, m.patience(askedWait))
	m.askResources(c.Inverse(), "other")
}

// give releases what was asked for. The addresses go, packets are still
// forwarded.
func (m *Machine) give() {
	m.phase = phaseGiving
	m.set(timerStandby, m.patience(givingWait))
	m.given = m.class & m.held
	if m.given == None {
		m.reportGiven()
		m.handOver()
		return
	}
	m.release(m.given, true, forGive, "handed over to "+m.cfg.Peer)
	m.reportGiven()
}

// reportGiven says what we hold no more. An old node that gets "done" before it
// calls that an error and takes nothing back, so under loss it is told twice.
func (m *Machine) reportGiven() {
	m.report("standby")
	if !m.peerSystole {
		m.report("")
	}
}

func (m *Machine) handOver() {
	m.handed = true
	m.askResources(m.class, "done")
}

func (m *Machine) take() {
	m.phase = phaseTaking
	m.clear(timerStandby)
	if c := m.class &^ m.held; c != None {
		m.acquire(c, forTake, m.cfg.Peer+" handed over")
		return
	}
	m.finishTake()
}

func (m *Machine) finishTake() {
	m.phase = phaseIdle
	m.clear(timerStandby)
	m.askResources(m.class.Inverse(), "done")
	m.report("")
	m.systole(infoHold)
	if m.stopping {
		m.nextStop()
	}
}

// finishGive: the peer has acquired and announced.
func (m *Machine) finishGive() {
	m.phase = phaseIdle
	m.failback = false
	m.clear(timerStandby)
	m.failed &^= m.class
	if m.draining != None {
		m.set(timerWithdraw, m.cfg.DrainGrace)
	}
	if m.stopping {
		m.nextStop()
		return
	}
	m.report("")
	m.systole(infoHold)
}

// cancelStandby ends a hand-over half way. What we have let go and the peer
// has not taken is ours again. tell: the peer is told, if it understands.
func (m *Machine) cancelStandby(tell bool, why string) {
	was := m.phase
	if was == phaseIdle {
		return
	}
	m.phase = phaseIdle
	m.clear(timerStandby)
	m.warn("hand-over of %s cancelled (%s): %s", m.class, was, why)
	if m.failback {
		m.failback, m.needsFailback = false, true
		m.set(timerFailback, m.failbackPause())
	}
	if was == phaseGiving && !m.stopping {
		if back := m.given &^ (m.held | m.otherHeld); back != None {
			m.acquire(back, forBack, "hand-over cancelled: "+why)
		} else {
			m.report("") // stable again
			m.systole(infoHold)
		}
		// What an earlier hand-over left, or this one, and the peer has taken.
		if m.draining != None {
			m.set(timerWithdraw, m.cfg.DrainGrace)
		}
	}
	if m.failed != None {
		m.set(timerAcquire, acquireRetry)
	}
	if tell {
		m.systole(infoRefuse)
	}
	if m.stopping {
		m.goodbye()
	}
}

func (m *Machine) standbyOverdue() {
	waiting := map[phase]string{
		phaseAsked: "no answer from ", phaseGiving: "nothing taken by ", phasePromised: "nothing released by ",
	}[m.phase] + m.cfg.Peer
	if m.phase == phaseAsked && !m.peerSystole {
		m.otherStable = true // section 10
	}
	m.cancelStandby(true, waiting)
}

// tryFailback gives the peer its groups back after its death (section 9).
func (m *Machine) tryFailback() {
	if !m.cfg.AutoFailback || !m.needsFailback || m.running(timerFailback) || m.stopping || m.peerWorse || m.fenced ||
		m.held&Foreign == None || len(m.ops) > 0 || m.ready() != nil || m.awaitsFlows() {
		return
	}
	m.needsFailback, m.failback = false, true
	m.info("giving %s its groups back (auto_failback on)", m.cfg.Peer)
	m.startStandby(Foreign)
}

// failbackPause is not the same on both sides: after a partition both may give
// back at once and refuse each other, which they should not do for ever.
func (m *Machine) failbackPause() time.Duration {
	if m.cfg.Node > m.cfg.Peer {
		return failbackRetry * 3 / 2
	}
	return failbackRetry
}

// patience is d towards a Systole director; an old node runs scripts.
func (m *Machine) patience(d time.Duration) time.Duration {
	if m.peerSystole {
		return d
	}
	return oldWait
}
