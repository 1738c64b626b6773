package hb

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"systole/hb/wire"
)

// guard protects from replayed packets, where the keys have one of method
// sha256. heartbeat has no such protection (section 3.3), and ignores its
// fields.
//
// Each life of a node draws a random nonce. Its packets carry nonce, its own,
// and seen, those of the others as it knows them. A packet that is signed with
// sha256 counts only if seen contains the receiver's nonce: then it was made
// after the receiver had started. That is all a node has to know that has
// forgotten everything; within its life the order is kept by generations and
// by numbers:
//
//   - A numbered message is accepted once, as ever (section 6.2), and one of
//     an earlier generation never.
//   - NS_ messages, which have no number, carry nscount, which grows by one
//     with each. So none of them is accepted twice on a medium, whatever its
//     type does. On each medium it may be accepted once, as an honest one is;
//     to repeat a request, an acknowledgement or a refusal within a life is
//     harmless: requests are answered at a bounded rate, the others only state
//     what stays true.
//
// A nonce is learnt from any packet that verifies, but only together with a
// higher generation than before. A replayed packet has at most the generation
// of its node's present life, and that one's nonce: it can teach something old
// to a node that knows nothing, but displace nothing newer. Whoever learns a
// nonce answers with a status, so that two nodes know each other after one and
// a half round trips.
//
// What is sent again is signed anew (history): it proves what its sender knows
// now. Else messages from before it knew the receiver could never arrive.
//
// While keys are rolled over, a packet signed with another method is judged by
// that method's rules, which protect less: replays of an earlier life of ours
// are not recognised. So the old key must go when every node signs with
// sha256. Meanwhile one thing can be seen: a node that has used sha256 and now
// does not must say so with a newer number than all before.
//
// What it does not prevent: a packet that never arrived may be held back and
// delivered later in the same life, and a link may look alive by copies of what
// came on another.
type guard struct {
	on       bool
	count    uint64    // our NS_ messages
	epoch    uint64    // grows when packets would be signed otherwise
	answerAt time.Time // when the others are to learn what we know; zero: nothing new
	answered time.Time // when they last did
}

// peerGuard is what guard knows of a peer.
type peerGuard struct {
	life     uint64 // generation that nonce belongs to; 0: none known
	nonce    [nonceLen]byte
	learnt   time.Time
	proved   uint64         // generation of which a fresh packet came; 0: none
	provedAt time.Time      // when the first one of it came
	counts   []replayWindow // of its NS_ messages in generation proved, by medium; the last one for media not listed
	first    uint64         // number with which its window began; 0: at one
	early    replayWindow   // of numbers below first
	sealed   bool           // it signs with sha256
	sealedAt time.Time      // since when
	key      wire.Key       // what it last signed with, without the secret
	keyText  string
}

const (
	nonceLen = 8

	// answerPeriod bounds how often new nonces are answered, so that many
	// nodes that start at once learn each other's with few packets.
	answerPeriod = 5 * time.Millisecond
)

// guarded: one key of method sha256 is enough. Nodes know each other's nonces
// before the first of them begins to sign with it.
func guarded(keys wire.Keys) bool {
	for _, k := range keys.Keys {
		if k.Method == wire.SHA256 {
			return true
		}
	}
	return false
}

// seal appends the fields that prove freshness.
func (c *Core) seal(b *builder, numbered bool) {
	b.binary("nonce", c.cfg.Nonce[:])
	start := len(b.buf)
	b.buf = c.appendSeen(b.buf)
	b.value("seen", wire.Binary, start)
	if !numbered {
		c.guard.count++
		b.number("nscount", c.guard.count, 16)
	}
}

// appendSeen appends the nonces of all peers that are known. Without any there
// is still one byte: a field without value is not carried by every receiver
// (section 2.1).
func (c *Core) appendSeen(dst []byte) []byte {
	start := len(dst)
	for _, p := range c.peers {
		if p.guard.life != 0 {
			dst = append(dst, p.guard.nonce[:]...)
		}
	}
	if len(dst) == start {
		dst = append(dst, 0)
	}
	return dst
}

// sees: the sender of the packet knows our nonce.
func (c *Core) sees(in *incoming) bool {
	for s := in.seen; len(s) >= nonceLen; s = s[nonceLen:] {
		if string(s[:nonceLen]) == string(c.cfg.Nonce[:]) {
			return true
		}
	}
	return false
}

// fresh says whether a packet of p was made for our present life. If not it
// has no other effect than to teach its nonce.
func (c *Core) fresh(now time.Time, medium string, p *peer, in *incoming) bool {
	if !c.guard.on {
		return true
	}
	g := &p.guard
	if len(in.nonce) == nonceLen && in.gen > g.life {
		g.life, g.nonce, g.learnt = in.gen, [nonceLen]byte(in.nonce), now
		c.guard.epoch++
		c.answer(now)
	}
	if in.key.Method != wire.SHA256 {
		newer := in.numbered && (in.gen > p.gen || in.seq > p.win.last)
		if g.sealed && !newer {
			c.counters.Stale++
			if now.Sub(g.sealedAt) <= c.cfg.Warntime {
				return false // just switched: on a slow medium it was still under way
			}
			c.report(now, reportReplay, p.id, Warn, "packet of node %s on %s is signed with key %s and not new, but the node signed with sha256 before: an attempted replay, unless its keys were just changed", p.name, medium, in.key)
			return false
		}
		g.sealed = false
		return true
	}
	switch {
	case len(in.nonce) != nonceLen || in.seen == nil || !in.numbered && in.count == 0:
		c.counters.Bad++
		c.report(now, reportMalformed, p.id, Warn, "packet of node %s on %s is signed with sha256 but has no fields nonce and seen: all nodes need the same version", p.name, medium)
		return false
	case !c.sees(in) || in.gen < g.proved:
		c.counters.Stale++
		c.reportStale(now, medium, p, in)
		return false
	}
	if in.gen > g.proved {
		g.proved, g.provedAt = in.gen, now
		clear(g.counts)
	}
	if !g.sealed {
		g.sealed, g.sealedAt = true, now
	}
	return true
}

// reportStale tells of a packet that was made for an earlier life of ours. Just
// after a start of either side such packets are under way, which is no news.
func (c *Core) reportStale(now time.Time, medium string, p *peer, in *incoming) {
	g := &p.guard
	switch {
	case in.gen < g.life:
		c.report(now, reportReplay, p.id, Warn, "packet of node %s on %s has generation %d, older than %d: an attempted replay", p.name, medium, in.gen, g.life)
	case in.gen == g.proved && now.Sub(g.provedAt) > c.cfg.Warntime:
		c.report(now, reportReplay, p.id, Warn, "packet of node %s on %s is from before our start: an attempted replay", p.name, medium)
	case in.gen > g.proved && now.Sub(g.learnt) > c.cfg.Warntime:
		c.report(now, reportReplay, p.id, Warn, "packets of node %s on %s do not show that it hears us: what we send does not arrive, or these are replayed", p.name, medium)
	}
}

// repeated: an NS_ message that came on this medium before. Some say something
// about the medium they come on.
func (c *Core) repeated(p *peer, medium string, in *incoming) bool {
	if in.key.Method != wire.SHA256 {
		return false
	}
	g := &p.guard
	if g.counts == nil {
		g.counts = make([]replayWindow, len(c.cfg.Media)+1)
	}
	i := slices.Index(c.cfg.Media, medium)
	if i < 0 {
		i = len(c.cfg.Media)
	}
	return !g.counts[i].accept(in.count)
}

// windowBegins notes that seq is the first number that we know of a peer.
func (g *peerGuard) windowBegins(seq uint64) {
	g.first, g.early = seq, replayWindow{top: seq - 1}
}

// overtaken: a numbered message that was made for us before the first one that
// arrived. Without proof of freshness it cannot be told from a replay.
func (g *peerGuard) overtaken(in *incoming) bool {
	return in.key.Method == wire.SHA256 && in.seq < g.first && g.early.accept(in.seq)
}

// noteKey remembers what the node signs with, for people.
func (p *peer) noteKey(k wire.Key) {
	k.Secret = nil
	if g := &p.guard; g.keyText == "" || g.key.Index != k.Index || g.key.Method != k.Method {
		g.key, g.keyText = k, k.String()
	}
}

// answer lets the others know the nonces we know, soon.
func (c *Core) answer(now time.Time) {
	g := &c.guard
	if !g.answerAt.IsZero() {
		return
	}
	if g.answerAt = g.answered.Add(answerPeriod); !g.answerAt.After(now) {
		c.answerNow(now)
	}
}

func (c *Core) answerNow(now time.Time) {
	c.guard.answered, c.guard.answerAt = now, time.Time{}
	c.sendStatus(now)
}

// SetKeys replaces the keys, as when authkeys has changed. If they are others
// than before, a status and a Report follow at once. An error wraps ErrConfig,
// and the old keys stay.
//
// To roll a key over while the cluster runs: list the new one on every node;
// then sign with it, node by node; then remove the old one everywhere. Systole
// nodes accept every listed key in every form; heartbeat does not (section
// 3.2).
func (c *Core) SetKeys(now time.Time, keys wire.Keys) error {
	now = c.enter(now)
	cfg := c.cfg
	cfg.Keys = keys
	if err := cfg.normalKeys(); err != nil {
		return err
	}
	if c.cfg.Keys.Send == cfg.Keys.Send && slices.EqualFunc(c.cfg.Keys.Keys, cfg.Keys.Keys, sameKey) {
		return nil
	}
	c.cfg.Keys = cfg.Keys
	c.guard.on = guarded(c.cfg.Keys)
	c.guard.epoch++
	c.sendStatus(now)
	var all []string
	signing := ""
	for _, k := range c.cfg.Keys.Keys {
		all = append(all, k.String())
		if k.Index == c.cfg.Keys.Send {
			signing = k.String()
		}
	}
	c.event(Report{Info, fmt.Sprintf("keys replaced: signing with %s, accepting %s", signing, strings.Join(all, ", "))})
	return nil
}

func sameKey(a, b wire.Key) bool {
	return a.Index == b.Index && a.Method == b.Method && bytes.Equal(a.Secret, b.Secret)
}
