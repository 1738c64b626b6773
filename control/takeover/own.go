package takeover

// purpose says what follows when an operation is done.
type purpose uint8

const (
	forStart    purpose = iota // our local groups at the start
	forDeath                   // the peer died or restarted
	forShutdone                // the peer shut down
	forTake                    // hand-over, taking
	forBack                    // hand-over failed, taken back
	forRetry                   // failed before, or owned by nobody
	forGive                    // hand-over, giving
	forLose                    // the peer is the later owner
	forCleanup                 // an Acquire failed
	forStop                    // Shutdown
	forQuorum                  // no quorum, or nobody to ask after a stall
	forFence                   // the rest of what a fenced director held
	forLegacy                  // a legacy node asked for its groups
	forOwner                   // kept, until who owns it is asked
	forNothing                 // tried again behind the fence
)

// op is an operation under way.
type op struct {
	id      int
	acquire bool
	drain   bool
	class   Class
	purpose purpose
	why     string
	tries   int // of a Release that failed
}

func (m *Machine) begin(o op) {
	m.lastOp++
	o.id = m.lastOp
	m.ops[o.id] = o
	for i := range m.lastFor {
		if o.class&(1<<i) != 0 {
			m.lastFor[i] = o.id
		}
	}
	m.why = o.why
	if o.acquire {
		planned := o.purpose == forTake || o.purpose == forBack || o.purpose == forShutdone
		m.emit(Acquire{Op: o.id, Class: o.class, Planned: planned, Why: o.why})
	} else {
		m.emit(Release{Op: o.id, Class: o.class, Drain: o.drain, Why: o.why})
	}
}

// acquire makes us the owner of c: announced from now on, before the operation
// is done (section 9).
//
// Without quorum, or behind the fence, nothing is acquired: who has the groups
// then is another one's decision, or a later one of ours.
func (m *Machine) acquire(c Class, p purpose, why string) {
	if !m.mayOwn() {
		return
	}
	m.seen++
	m.epochs.set(c, m.seen)
	m.held |= c
	m.kept &^= c
	m.failed &^= c
	m.releasing &^= c
	m.drained(c)
	m.begin(op{acquire: true, class: c, purpose: p, why: why})
}

func (m *Machine) release(c Class, drain bool, p purpose, why string) {
	m.held &^= c
	m.kept &^= c
	m.active &^= c
	m.contested &^= c
	m.releasing |= c
	if drain {
		m.draining |= c
		m.clear(timerWithdraw) // the grace begins when the peer has announced
	} else {
		m.drained(c)
	}
	m.begin(op{drain: drain, class: c, purpose: p, why: why})
}

// drained: c is not draining any more.
func (m *Machine) drained(c Class) {
	if m.draining &^= c; m.draining == None {
		m.clear(timerWithdraw)
	}
}

// withdraw ends the draining; it is what a Shutdown waits for last.
func (m *Machine) withdraw() {
	if m.draining != None {
		m.emit(Withdraw{m.draining})
		m.draining = None
	}
	m.maybeStop()
}

// live are the classes of o that no later operation has touched.
func (m *Machine) live(o op) Class {
	var c Class
	for i, last := range m.lastFor {
		if last == o.id {
			c |= 1 << i & o.class
		}
	}
	return c
}

func (m *Machine) done(d Done) {
	if d.Op == m.fencing && d.Op != 0 {
		m.fenceDone(d.Err)
		return
	}
	o, ok := m.ops[d.Op]
	if !ok {
		m.warn("operation %d reported done, but is not under way", d.Op)
		return
	}
	delete(m.ops, d.Op)
	live := m.live(o)
	switch {
	case o.acquire && d.Err != nil:
		if live != None {
			m.acquireFailed(o, live, d.Err)
		}
	case o.acquire:
		m.active |= live
		if live != None || o.purpose == forTake { // else it was overtaken
			m.acquired(o)
		}
	case d.Err != nil:
		if live != None {
			m.releaseFailed(o, live, d.Err)
		}
	default:
		m.releasing &^= live
		m.released(o, live)
		m.unfence()
	}
}

func (m *Machine) acquired(o op) {
	switch o.purpose {
	case forStart:
		m.report("req_our_resources()")
	case forDeath, forShutdone:
		m.report("req_our_resources()")
		if o.purpose == forShutdone {
			// The original takes over as if by a hand-over and ends like one.
			m.askResources(o.class.Inverse(), "done")
		}
		if o.class&Foreign != 0 && !(m.peerAlive && m.peerSystole) {
			m.machDown()
		}
	case forTake:
		if m.phase == phaseTaking {
			m.finishTake()
			return
		}
	case forBack, forRetry:
		m.report("")
	}
	m.systole(infoHold)
}

func (m *Machine) released(o op, live Class) {
	switch o.purpose {
	case forGive:
		if m.phase == phaseGiving && !m.handed {
			m.handOver()
		}
	case forLose, forQuorum:
		m.report("")
		m.systole(infoHold)
	case forFence:
		m.report("")
		if m.phase == phaseIdle {
			m.offer()
		}
	case forLegacy:
		m.answerRequests()
	case forCleanup:
		m.cleanedUp(live)
	}
	m.rearm()
	if m.state == stateShutdown && m.answering() == None {
		m.sayShutdone()
	}
	m.maybeStop()
}

func (m *Machine) acquireFailed(o op, live Class, err error) {
	m.error("cannot acquire %s: %v", live, err)
	if o.purpose != forTake || m.phase != phaseTaking {
		m.failed |= live
	}
	m.release(live, false, forCleanup, "could not be acquired")
}

// cleanedUp decides what becomes of groups that we could not acquire.
func (m *Machine) cleanedUp(c Class) {
	if m.stopping {
		if m.phase == phaseTaking {
			m.cancelStandby(true, "cannot be acquired")
		}
		return
	}
	if m.phase == phaseTaking {
		if m.peerSystole {
			m.cancelStandby(true, "cannot be acquired") // it takes them back; they drained so far
			m.report("")
			return
		}
		// The old hand-over knows no way back: finish it, then offer.
		m.failed |= c
		m.finishTake()
	}
	m.offer()
}

// offer hands groups that we failed to acquire to the peer, or tries again
// later.
func (m *Machine) offer() {
	if m.failed == None {
		return
	}
	if m.fenced || m.offered.IsZero() || m.now.Sub(m.offered) >= offerPause {
		if m.startStandby(m.failed) == nil {
			m.offered = m.now
			return
		}
	}
	if m.fenced {
		m.set(timerAcquire, releaseRetry) // to offer them again
		return
	}
	m.warn("trying to acquire %s again in %v", m.failed, acquireRetry)
	m.set(timerAcquire, acquireRetry)
	m.systole(infoHold)
}

func (m *Machine) retryAcquire() {
	if m.failed &^= m.otherHeld | m.held; m.failed == None || m.stopping {
		return
	}
	if m.phase != phaseIdle || m.lease == LeaseSuspended {
		m.set(timerAcquire, acquireRetry)
		return
	}
	if m.fenced {
		m.offer()
		return
	}
	if m.peerAlive && m.peerSystole && !m.gone && m.failed&Foreign != None {
		// It may try at this very moment, too. The one that is preferred tries;
		// if it cannot, it offers them to us.
		if !m.settled() {
			m.set(timerAcquire, acquireRetry)
			return
		}
		m.failed &^= Foreign
		m.report("") // it may think that we have them
		m.systole(infoHold)
		if m.failed == None {
			return
		}
	}
	m.acquire(m.failed, forRetry, "trying again")
}

func (m *Machine) retryRelease() {
	again := m.stuck
	m.stuck = nil
	for _, o := range again {
		if o.class = m.live(o); o.class != None {
			m.begin(o)
		}
	}
}
