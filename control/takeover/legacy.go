package takeover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"systole/hb/wire"
)

// auto_failback legacy (heartbeat-wire.md section 9, last paragraph): no report
// and no hand-over, a node asks for its own groups by name and the one that
// has them lets go:
//
//	ip-request ipaddr=KEY
//	ip-request-resp dest=NODE ipaddr=KEY weown=yes ok=OK
//
// One that becomes active before it has read that the other one is asks nobody,
// though the other may hold its groups: it sends the answer to itself. This is
// all it says, so who overhears it lets go.
//
// It says nothing of what it holds, so it is believed to hold all while it was
// there before us, and its own groups afterwards. Between two Systole directors
// that are configured so the message "systole" says everything and the word
// means "on": nobody asks in this way, and never are there two owners.
const (
	// introduceWait is how long a peer may take to show that it is a Systole
	// director, or an old one that reports: the latter is up to half a second
	// late with anything (section 15).
	introduceWait = time.Second
	// requestRetry is the pause between questions for our groups; the real
	// answers within 0.6 s.
	requestRetry = 5 * time.Second
	// tookWaitOld is how long an old node may take from our answer to its
	// announcement, by which we have drained: 0.6 s in the captures.
	tookWaitOld = 5 * time.Second
)

// legacy says whether the peer, as far as we know it, speaks legacy.
func (m *Machine) legacy() bool { return m.cfg.Legacy && !m.peerSystole && !m.peerReports }

// SetLegacy changes how an old peer is spoken to, from the next Step on.
func (m *Machine) SetLegacy(on bool) { m.cfg.Legacy = on }

// SetKeys changes the names of the groups, ours and the peer's.
func (m *Machine) SetKeys(ours, theirs []string) { m.cfg.Keys, m.cfg.PeerKeys = ours, theirs }

// speaks learns from a message that an old peer does not speak legacy, or that
// it does though we do not.
func (m *Machine) speaks(msg wire.Message) {
	_, full := msg.Get("rtype")
	switch {
	case m.legacy() && (msg.Type() == "starting" || msg.Type() == "resource" && full):
		m.peerReports = true
		m.notLegacy()
		m.set(timerLegacy, introduceWait) // it may yet be a Systole director
	case !m.cfg.Legacy && !m.peerSystole && msg.Type() == "ip-request":
		m.grumble("%s speaks auto_failback legacy: it may take its groups though we hold them; write cluster.auto_failback: legacy here, or on or off there")
	}
}

func (m *Machine) grumble(format string) {
	if !m.grumbled {
		m.grumbled = true
		m.warn(format, m.cfg.Peer)
	}
}

// notLegacy: the peer turned out to be another one than the word says.
func (m *Machine) notLegacy() {
	if !m.cfg.Legacy {
		return
	}
	m.clear(timerLegacy)
	m.asked = nil
	if m.state == stateStarting || m.state == stateReceived {
		m.starting()
		m.set(timerReport, startWait)
	}
}

// startLegacy: a peer that is not active yet holds nothing, so ours are free.
// Else it may introduce itself first.
func (m *Machine) startLegacy() {
	if m.peerJoining {
		m.becomeStable()
		return
	}
	m.otherHeld = All
	m.set(timerLegacy, introduceWait)
}

// notIntroduced: the peer said nothing that only another kind of node says, or
// nothing to our question.
func (m *Machine) notIntroduced() {
	if m.cfg.Legacy && m.peerReports && !m.peerSystole {
		m.grumble("%s speaks auto_failback on or off, not legacy: so do we; write the same on both")
	}
	if !m.legacy() || !m.peerAlive || m.stopping {
		return
	}
	switch m.state {
	case stateStarting, stateReceived:
		m.request()
	case stateStable:
		if m.fresh {
			m.freshLegacy()
		}
	}
}

// freshLegacy: a legacy node has restarted within its dead time. It asks for
// its own groups by itself; what it had of ours nobody has now.
func (m *Machine) freshLegacy() {
	m.fresh = false
	if c := Local &^ m.held; c != None && m.lease != LeaseSuspended {
		m.acquire(c, forDeath, m.cfg.Peer+" restarted")
	}
}

// request asks for our groups, those that are still to be answered again.
func (m *Machine) request() {
	if m.asked == nil {
		m.asked = slices.Clone(m.cfg.Keys)
	} else {
		m.warn("%s does not answer for %s, asking again: its haresources must name the group so; else write the group's key haresources here", m.cfg.Peer, strings.Join(m.asked, ", "))
	}
	if len(m.asked) == 0 {
		m.otherHeld = Foreign
		m.becomeStable() // no group prefers us
		return
	}
	for _, key := range m.asked {
		m.send(wire.New("ip-request", "ipaddr", key))
	}
	m.set(timerLegacy, requestRetry)
}

// peerResponds takes an ip-request-resp: the peer has let go of a group, or it
// answers itself and takes one.
func (m *Machine) peerResponds(msg wire.Message) error {
	key, _ := msg.Get("ipaddr")
	switch dest, _ := msg.Get("dest"); {
	case !m.legacy():
		return nil
	case dest == m.cfg.Peer:
		return m.peerTakes(key)
	case dest != m.cfg.Node:
		return nil
	}
	i := slices.IndexFunc(m.asked, func(asked string) bool { return sameKey(asked, key) })
	if i < 0 {
		return nil // a late one
	}
	if ok, _ := msg.Get("ok"); ok != "OK" {
		return fmt.Errorf("field ok: %q: it did not let go of %s", ok, key)
	}
	if m.asked = slices.Delete(m.asked, i, i+1); len(m.asked) > 0 {
		return nil
	}
	m.clear(timerLegacy)
	m.otherHeld = Foreign
	if m.state == stateStarting || m.state == stateReceived {
		m.becomeStable()
	}
	return nil
}

// peerRequests takes an ip-request: the peer wants a group that prefers it.
func (m *Machine) peerRequests(msg wire.Message) error {
	if !m.legacy() {
		return nil
	}
	key, _ := msg.Get("ipaddr")
	if err := m.checkPeerKey(key); err != nil {
		return err
	}
	if !slices.Contains(m.owed, key) {
		m.owed = append(m.owed, key)
	}
	m.yieldLegacy("asks for its groups")
	return nil
}

// peerTakes: the peer takes a group that prefers it, unasked.
func (m *Machine) peerTakes(key string) error {
	if err := m.checkPeerKey(key); err != nil {
		return err
	}
	m.taken = true
	m.yieldLegacy("takes its groups")
	return nil
}

// checkPeerKey refuses a group that does not prefer the peer.
func (m *Machine) checkPeerKey(key string) error {
	is := func(k string) bool { return sameKey(k, key) }
	switch {
	case slices.ContainsFunc(m.cfg.PeerKeys, is):
		return nil
	case slices.ContainsFunc(m.cfg.Keys, is):
		return fmt.Errorf("field ipaddr: the group %q prefers us here: the configs differ", key)
	default:
		return fmt.Errorf("field ipaddr: no group is named %q here: write it as the group's key haresources", key)
	}
}

// yieldLegacy lets go of the peer's groups, as it does what it says.
func (m *Machine) yieldLegacy(does string) {
	if m.fresh {
		m.freshLegacy()
	}
	if c := m.held & Foreign; c != None {
		m.release(c, true, forLegacy, m.cfg.Peer+" "+does)
	}
	m.answerRequests()
}

// answerRequests tells the peer that its groups are free, when they are and it
// has asked.
func (m *Machine) answerRequests() {
	if len(m.owed) == 0 && !m.taken || (m.held|m.answering())&Foreign != None {
		return
	}
	for _, key := range m.owed {
		m.send(wire.New("ip-request-resp", "dest", m.cfg.Peer, "ipaddr", key, "weown", "yes", "ok", "OK"))
	}
	m.owed, m.taken, m.needsFailback = nil, false, false
	m.otherHeld |= Foreign
	m.failed &^= Foreign
	if m.draining != None {
		m.set(timerWithdraw, tookWaitOld+m.cfg.DrainGrace)
	}
}

// askLegacy is the question of a suspended director (see ask) to a node that
// answers none: if it saw us dead it restarts itself within two seconds of
// hearing us (section 11), and says shutdone.
func (m *Machine) askLegacy() {
	if m.now.Before(m.quietUntil) {
		m.due[timerClaim] = m.quietUntil
		return
	}
	m.resume(None)
}

// sameKey compares names of a group: equal, or one is the address alone and the
// other one a resource with it: "IPaddr2::192.168.145.100/24/eth0".
func sameKey(a, b string) bool { return a == b || keyAddr(a) == b || keyAddr(b) == a }

func keyAddr(key string) string {
	if _, arg, ok := strings.Cut(key, "::"); ok {
		key = arg
	}
	key, _, _ = strings.Cut(key, "/")
	return key
}
