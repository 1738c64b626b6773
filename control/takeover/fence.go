package takeover

// An address that cannot be removed is answered for by the kernel, whoever
// owns it by now. The original reboots the machine. We end the data plane's
// lease for good: it then drops what comes for any virtual address, ARP
// included, so the address may stay and another director may have it.
//
// It silences all of this director's groups, so all of them are offered to the
// peer. While fenced nothing is taken. The fence falls when every Release has
// worked at last, or when the peer dies: then nobody else answers.

// fenceAfter is how many times a Release must fail: the second try comes soon.
const fenceAfter = 2

// releaseFailed tries again, and fences when that does not help. The hand-over
// that waits for it goes on behind the fence; where no fence can be had it goes
// on waiting, and a Systole peer gives up and leaves us what it has not got.
func (m *Machine) releaseFailed(o op, live Class, err error) {
	o.class = live
	o.tries++
	pause := releaseRetry
	if o.tries < fenceAfter {
		pause = releaseAgain
	}
	if text := err.Error(); text != m.stuckWhy {
		m.stuckWhy = text
		m.error("cannot release %s: %s; trying again until it works: remove the address by hand (ip address del) if it never does", live, text)
	}
	switch {
	case m.fenced:
		m.passed(&o)
	case o.tries < fenceAfter:
	case m.peerAlive || m.stopping || m.cfg.AtMostOne:
		m.fence()
	case m.failed != None:
		m.set(timerAcquire, acquireRetry) // alone, what stays is no harm: try to own it again
	}
	m.stuck = append(m.stuck, o)
	if at := m.now.Add(pause); !m.running(timerRelease) || at.Before(m.due[timerRelease]) {
		m.due[timerRelease] = at
	}
}

// fence asks for the end of the lease; see fenceDone.
func (m *Machine) fence() {
	if m.fencing != 0 {
		return
	}
	m.lastOp++
	m.fencing = m.lastOp
	m.emit(Fence{Op: m.fencing, Why: m.stuckWhy})
}

func (m *Machine) fenceDone(err error) {
	m.fencing = 0
	if err != nil {
		if text := err.Error(); text != m.fenceWhy {
			m.fenceWhy = text
			m.error("cannot fence: %s; what cannot be released is not handed over", text)
		}
		return
	}
	if m.releasing == None {
		// It has worked in the meantime, or was overtaken.
		m.lease = LeaseFenced
		m.regrant()
		return
	}
	m.fenced, m.lease, m.fenceWhy = true, LeaseFenced, ""
	m.clear(timerClaim)
	m.resuming = false
	m.error("fenced: this director answers for no virtual address until %s is released; the groups are %s's if it can take them", m.releasing, m.cfg.Peer)
	for i := range m.stuck {
		if m.stuck[i].class = m.live(m.stuck[i]); m.stuck[i].class != None {
			m.passed(&m.stuck[i])
		}
	}
	if m.held != None && !m.stopping {
		// Nobody is served by us. What is not being handed over is offered.
		c := m.held
		m.failed |= c
		m.release(c, false, forFence, "fenced")
	}
}

// passed lets go on what waits for a Release that is behind the fence now. It
// is tried again for its own sake.
func (m *Machine) passed(o *op) {
	was := *o
	o.purpose = forNothing
	m.released(was, was.class)
}

// answering are the classes whose addresses may still be answered for though
// they are given away.
func (m *Machine) answering() Class {
	if m.fenced {
		return None
	}
	return m.releasing
}

// jammed is what of that a report calls held, lest a node that starts in this
// moment takes it: what a Release has failed for, and what the protocol does
// not tell the peer to wait for.
func (m *Machine) jammed() Class {
	var c Class
	for _, o := range m.stuck {
		c |= m.live(o)
	}
	for _, o := range m.ops {
		planned := o.purpose == forGive || o.purpose == forStop || o.purpose == forLegacy
		if !o.acquire && (o.tries > 0 || !planned) {
			c |= m.live(o)
		}
	}
	return c & m.answering()
}

// unfence: is everything released?
func (m *Machine) unfence() {
	if !m.fenced || m.releasing != None || m.stopping {
		return
	}
	m.fenced, m.stuckWhy = false, ""
	m.info("everything is released at last: fenced no more")
	m.regrant()
	if m.failed != None {
		m.set(timerAcquire, acquireRetry)
	}
	m.systole(infoHold)
}

// regrant gives the lease that fits after the fence.
func (m *Machine) regrant() {
	switch {
	case m.peerAlive:
		m.setLease(LeaseArmed)
	case m.state == stateInit && !m.peerEver:
		m.setLease(LeaseNone)
	default:
		m.setLease(LeaseUnlimited)
	}
}
