package takeover

import (
	"fmt"
	"strconv"
	"time"

	"systole/hb/wire"
)

// ipfail (heartbeat-wire.md section 12): of two directors the one that sees
// fewer ping nodes gives its groups up, when it has been so for two keepalives:
// a gateway's death is seen here and there at slightly different times.
//
// Systole directors tell each other the number in the message "systole". An old
// node has a program of that name: its questions are answered, and ours are
// asked with its words. Both ways end in one comparison, so never do both give
// up: of two different numbers only one is smaller.
//
// Giving up is quick, since clients behind the lost ping nodes are lost.
// Coming back is slow: with auto_failback the peer must have been as good as
// we for dampFirst, twice as long each time it gives up again soon.
const (
	ipfailID        = "ipfail"
	typeNumPings    = "num_ping_nodes"
	typeYouAreDead  = "you_are_dead"
	typeAbortGiveUp = "abort_giveup"
	typeClientState = "hbapi-clstat"

	maxPings = 1000 // more are a mistake

	// giveUpPause is the time between attempts to give up.
	giveUpPause = 5 * time.Second
	dampFirst   = 10 * time.Second
	dampMost    = 5 * time.Minute
	dampMemory  = 10 * time.Minute
)

func (m *Machine) pingsChanged(p Pings) {
	if p.Alive < 0 || p.Alive > maxPings || p.Alive == m.pings {
		return
	}
	m.pings = p.Alive
	if m.state == stateInit || !m.peerAlive || m.stopping {
		return
	}
	if m.peerSystole {
		m.systole(infoHold)
		return
	}
	m.otherPings = -1 // until it answers
	m.askPings()
}

// askPings is ipfail's question. A client of the real daemon signs on first.
func (m *Machine) askPings() {
	if m.pings < 0 || m.peerSystole {
		return
	}
	if !m.signedOn {
		m.signedOn = true
		m.send(wire.New(typeClientState, "st", "join", "from_id", ipfailID, "to_id", ipfailID, "info", "signon", "client_gen", "0"))
	}
	m.ipfail(typeNumPings, "num_ping", strconv.Itoa(m.pings))
}

// ipfail sends one of its messages, fields as the real one has them.
func (m *Machine) ipfail(typ string, kv ...string) {
	m.send(wire.New(typ, append(kv, "dest", m.cfg.Peer, "from_id", ipfailID, "to_id", ipfailID, "client_gen", "0")...))
}

// peerPings takes a message of the peer's ipfail.
func (m *Machine) peerPings(msg wire.Message) error {
	if dest, _ := msg.Get("dest"); dest != m.cfg.Node {
		return nil
	}
	if m.pings < 0 {
		m.info("%s from %s ignored: no ping node is configured here (cluster.ping)", msg.Type(), m.cfg.Peer)
		return nil
	}
	switch msg.Type() {
	case typeYouAreDead:
		m.otherPings = max(m.otherPings, m.pings+1)
	case typeAbortGiveUp:
		m.otherPings = m.pings
	case typeNumPings:
		word, _ := msg.Get("num_ping")
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n > maxPings {
			return fmt.Errorf("field num_ping: %q: want a number from 0 to %d", word, maxPings)
		}
		m.otherPings = n
		switch {
		case n < m.pings:
			m.ipfail(typeYouAreDead)
		case n == m.pings:
			m.ipfail(typeAbortGiveUp)
		}
	}
	return nil
}

// weigh compares, after every Step, and begins or ends what follows from it.
func (m *Machine) weigh() {
	known := m.pings >= 0 && m.otherPings >= 0 && m.peerAlive && !m.gone && !m.stopping
	worse := known && m.otherPings < m.pings
	if pause := max(m.damp, m.cfg.FailbackDelay); m.peerWorse && !worse && m.needsFailback && pause > 0 {
		m.set(timerFailback, pause)
	}
	m.peerWorse = worse
	switch {
	case !known || m.pings >= m.otherPings || m.held == None || m.phase != phaseIdle:
		m.clear(timerGiveUp)
	case !m.running(timerGiveUp):
		wait := 2 * m.cfg.Keepalive
		if pause := giveUpPause - m.now.Sub(m.gaveUp); !m.gaveUp.IsZero() && pause > wait {
			wait = pause
		}
		m.set(timerGiveUp, wait)
	}
}

// giveUp hands everything to the peer, which sees more.
func (m *Machine) giveUp() {
	m.gaveUp = m.now
	err := m.startStandby(All, "from_id", ipfailID, "to_id", ipfailID, "client_gen", "0")
	if err != nil {
		m.warn("%s sees %d ping nodes, we see %d, but it cannot take over: %v", m.cfg.Peer, m.otherPings, m.pings, err)
		return
	}
	m.warn("%s sees %d ping nodes, we see %d: giving up", m.cfg.Peer, m.otherPings, m.pings)
}

// peerGivesUp: what we take belongs to it again when it has been well for long
// enough (auto_failback on).
func (m *Machine) peerGivesUp() {
	m.needsFailback = true
	if m.took.IsZero() || m.now.Sub(m.took) > dampMemory {
		m.damp = dampFirst
	} else {
		m.damp = min(2*m.damp, dampMost)
	}
	m.took = m.now
	m.set(timerFailback, max(m.damp, m.cfg.FailbackDelay))
}
