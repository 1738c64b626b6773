package takeover

import (
	"fmt"
	"strconv"

	"systole/hb/wire"
)

// order is when a message was sent: hb delivers each message once, but not in
// order (section 6). Among reports only the newest counts.
type order struct {
	generation, seq uint64
	known           bool
}

func orderOf(msg wire.Message) order {
	seq, ok := msg.GetUint("seq", 16)
	hg, _ := msg.GetUint("hg", 16)
	return order{hg, seq, ok}
}

// after says whether o was sent after p. Without sequence numbers the order of
// arrival is all there is.
func (o order) after(p order) bool {
	if !o.known || !p.known {
		return true
	}
	if o.generation != p.generation {
		return o.generation > p.generation
	}
	return o.seq > p.seq
}

// reportMsg is what a resource or a systole message says of its sender.
type reportMsg struct {
	order
	held      Class // in our words
	full      bool
	stable    bool
	hasStable bool
	info      string
	// systole only
	epochs    epochs // the sender's words
	suspended bool
	pings     int // -1: not said
	n, re     uint64
}

// parseReport reads a resource or systole message. The error names the field.
func parseReport(msg wire.Message) (reportMsg, error) {
	r := reportMsg{order: orderOf(msg)}
	word, _ := msg.Get("rsc_hold")
	held, err := ParseClass(word)
	if err != nil {
		return r, fmt.Errorf("field rsc_hold: %w", err)
	}
	r.held = held.Inverse()
	r.info, _ = msg.Get("info")
	rtype, hasType := msg.Get("rtype")
	if hasType && rtype != "full" {
		return r, fmt.Errorf("field rtype: %q: want full", rtype)
	}
	r.full = hasType
	stable, ok := msg.Get("isstable")
	if ok && stable != "0" && stable != "1" {
		return r, fmt.Errorf("field isstable: %q: want 0 or 1", stable)
	}
	r.hasStable, r.stable = ok, stable == "1"
	if msg.Type() != typeSystole {
		return r, nil
	}
	r.full = true
	if !ok {
		return r, fmt.Errorf("field isstable is missing")
	}
	switch r.info {
	case infoHello, infoClaim, infoHold, infoRefuse:
	default:
		return r, fmt.Errorf("field info: %q: want hello, claim, hold or refuse", r.info)
	}
	epoch, _ := msg.Get("epoch")
	if r.epochs, err = parseEpochs(epoch); err != nil {
		return r, fmt.Errorf("field epoch: %w", err)
	}
	for _, f := range []struct {
		name string
		to   *uint64
	}{{"n", &r.n}, {"re", &r.re}} {
		if _, ok := msg.Get(f.name); !ok {
			continue
		}
		if *f.to, ok = msg.GetUint(f.name, 16); !ok {
			return r, fmt.Errorf("field %s: want a hexadecimal number", f.name)
		}
	}
	_, r.suspended = msg.Get("suspended")
	r.pings = -1
	if _, ok := msg.Get("pings"); ok {
		n, ok := msg.GetUint("pings", 16)
		if !ok || n > maxPings {
			return r, fmt.Errorf("field pings: want a hexadecimal number up to %x", maxPings)
		}
		r.pings = int(n)
	}
	return r, nil
}

// The messages of our own: type and words of the field info.
const (
	typeSystole = "systole"
	infoHello   = "hello"  // who I am; answered by hold
	infoClaim   = "claim"  // what I think is mine; answered by hold
	infoHold    = "hold"   // what I own now
	infoRefuse  = "refuse" // the ask_resources I got does not fit; end it
)

// systole sends a message of our own. To a peer that was never heard to be a
// Systole director only hello is sent: an old node ignores it.
func (m *Machine) systole(info string, kv ...string) {
	if !m.peerSystole && info != infoHello {
		return
	}
	// Until a Release is done the address is still there.
	held := m.held | m.answering()
	msg := wire.New(typeSystole, "info", info, "rsc_hold", held.String(),
		"epoch", m.epochs.String(), "isstable", digit(m.stable()))
	if m.lease == LeaseSuspended {
		msg.Set("suspended", "1")
	}
	if m.pings >= 0 {
		msg.Set("pings", strconv.FormatInt(int64(m.pings), 16))
	}
	for i := 0; i < len(kv); i += 2 {
		msg.Set(kv[i], kv[i+1])
	}
	m.send(msg)
}

// hello introduces us. Its number is new in every incarnation, so an answer to
// it was surely given to this one.
func (m *Machine) hello() {
	m.claim = max(m.claim+1, uint64(m.now.UnixNano()))
	if m.firstHello == 0 {
		m.firstHello = m.claim
	}
	m.systole(infoHello, "n", strconv.FormatUint(m.claim, 16))
}

// report sends a full resource report (section 9).
func (m *Machine) report(info string) {
	if m.legacy() {
		return
	}
	msg := wire.New("resource", "rsc_hold", (m.held | m.jammed()).String(), "rtype", "full", "isstable", digit(m.stable()))
	if info != "" {
		msg.Set("info", info)
	}
	m.send(msg)
}

// repeated: an old peer takes the report that is sent again for newer than those
// that it got meanwhile. If that one says that we are not stable, it would ignore
// its operator and ours ("Other side is in flux") until our next one.
func (m *Machine) repeated(msg wire.Message) {
	if isstable, _ := msg.Get("isstable"); msg.Type() == "resource" && isstable == "0" && m.stable() && m.phase == phaseIdle {
		m.report("")
	}
}

func (m *Machine) askResources(c Class, info string, kv ...string) {
	if m.legacy() {
		return
	}
	msg := wire.New("ask_resources", "rsc_hold", c.String(), "info", info)
	for i := 0; i < len(kv); i += 2 {
		msg.Set(kv[i], kv[i+1])
	}
	m.send(msg)
}

// starting asks an old node for a report (section 9); a legacy one has none.
func (m *Machine) starting() {
	if !m.legacy() {
		m.send(wire.New("starting"))
	}
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// outdate: what the peer said earlier than msg is not to be believed later.
func (m *Machine) outdate(msg wire.Message) {
	o := orderOf(msg)
	if r, err := parseReport(msg); err == nil && r.full && o.after(m.lastReport) {
		m.lastReport = o
	}
	if msg.Type() == typeSystole && o.after(m.lastSays) {
		m.lastSays = o
	}
}

// message takes a message of the peer.
func (m *Machine) message(msg wire.Message) {
	if src, ok := msg.Get("src"); ok && src != m.cfg.Peer {
		m.warn("message %s from %s ignored: the other director is %s", msg.Type(), src, m.cfg.Peer)
		return
	}
	m.giveBack()
	if !m.peerAlive {
		// What a node said that is not alive is not acted upon: after its next
		// beat we ask. Only "starting" is not said again.
		m.owedReport = m.owedReport || msg.Type() == "starting"
		m.outdate(msg)
		return
	}
	m.speaks(msg)
	var err error
	switch msg.Type() {
	case "starting":
		m.peerStarting(orderOf(msg))
	case "resource":
		err = m.peerResource(msg)
	case typeSystole:
		err = m.peerSays(msg)
	case "ask_resources":
		err = m.peerAsks(msg)
	case "hb_takeover":
		word, _ := msg.Get("rsc_hold")
		c, bad := ParseClass(word)
		if bad != nil || c == None {
			c = All // section 10: any other word degenerates to all
		}
		if err := m.startStandby(c.Inverse()); err != nil {
			m.warn("%s asked to take over %s, refused: %v", m.cfg.Peer, word, err)
		}
	case "stonith":
		m.peerBuried(msg)
	case "shutdone":
		m.peerShutdone(orderOf(msg))
	case "ip-request":
		err = m.peerRequests(msg)
	case "ip-request-resp":
		err = m.peerResponds(msg)
	case typeNumPings, typeYouAreDead, typeAbortGiveUp:
		err = m.peerPings(msg)
	}
	if err != nil {
		m.warn("message %s from %s ignored: %v", msg.Type(), m.cfg.Peer, err)
	}
}
