package hb

import (
	"bytes"
	"errors"
	"time"

	"systole/hb/wire"
)

// Receive takes one packet from a medium. A bad one changes nothing and is
// reported. packet is not kept.
func (c *Core) Receive(now time.Time, medium string, packet []byte) {
	now = c.wake(now)
	c.counters.Received++
	m, _, err := c.decoder.Decode(packet, c.cfg.Keys)
	if err != nil {
		c.counters.Bad++
		kind := reportMalformed
		if errors.Is(err, wire.ErrAuth) || errors.Is(err, wire.ErrKey) {
			kind = reportAuth
		}
		c.report(now, kind, 0, Warn, "bad packet on %s: %v", medium, err)
		return
	}
	in, err := parse(m)
	if err != nil {
		c.counters.Bad++
		c.report(now, reportMalformed, 0, Warn, "bad packet on %s: message %.40q from %.40q: %v", medium, in.typ, in.src, err)
		return
	}
	if len(c.pings) > 0 && c.heardPing(now, medium, &in) {
		return
	}
	in.key = c.decoder.Key()
	if p := c.sender(now, medium, &in); p != nil {
		p.noteKey(in.key)
		p.due = time.Time{}
		c.receive(now, medium, p, &in)
	}
}

// sender finds out whose packet it is (section 4). Nil: nobody's, or our own.
//
// The original looks for the uuid first and renames the node if the name does
// not fit. With a fixed list of names the name decides, and a uuid that
// belongs to another node is a mistake to report, not a node to rename.
func (c *Core) sender(now time.Time, medium string, in *incoming) *peer {
	p := c.byName[string(in.src)]
	if p == nil {
		lower := bytes.ToLower(in.src)
		if string(lower) == c.cfg.Node {
			c.heardSelf(now, medium, in)
			return nil
		}
		if p = c.byName[string(lower)]; p == nil {
			p = c.join(now, string(lower), in)
		}
	}
	if p == nil {
		c.counters.Bad++
		c.report(now, reportStranger, 0, Error, "packet on %s from %.40q, which is no node of this cluster: add it to the configuration on all nodes, or give that cluster other keys or another port", medium, in.src)
		return nil
	}
	if in.gen < p.gen && (in.numbered || in.gen != 0) {
		c.counters.Bad++
		// One such packet may just have been under way while the node restarted.
		c.report(now, reportReplay, p.id, Warn, "packet of node %s has generation %d, older than %d: an attempted replay, or if it goes on the node has lost its generation file: write a higher number there", p.name, in.gen, p.gen)
		return nil
	}
	if !c.fresh(now, medium, p, in) {
		return nil
	}
	if in.srcUUID == nil || p.hasUUID && string(in.srcUUID) == string(p.uuid[:]) {
		return p
	}
	owner := ""
	if string(in.srcUUID) == string(c.cfg.UUID[:]) {
		owner = c.cfg.Node
	}
	for _, q := range c.peers {
		if q != p && q.hasUUID && string(in.srcUUID) == string(q.uuid[:]) {
			owner = q.name
		}
	}
	if owner != "" {
		c.counters.Bad++
		c.report(now, reportIdentity, p.id, Error, "node %s uses the uuid of node %s: give one of them a new uuid file", p.name, owner)
		return nil
	}
	if p.hasUUID {
		c.report(now, reportIdentity, p.id, Warn, "node %s has a new uuid %x (was %x)", p.name, in.srcUUID, p.uuid)
	}
	p.uuid, p.hasUUID = [16]byte(in.srcUUID), true
	return p
}

// heardSelf takes a packet with our own name: on a broadcast medium one hears
// oneself. Our own messages were delivered when they were submitted.
func (c *Core) heardSelf(now time.Time, medium string, in *incoming) {
	if in.srcUUID != nil && string(in.srcUUID) != string(c.cfg.UUID[:]) {
		c.counters.Bad++
		c.report(now, reportIdentity, 0, Error, "another machine on %s calls itself %s, with uuid %x: two nodes must not have one name", medium, c.cfg.Node, in.srcUUID)
		return
	}
	if in.gen > c.cfg.Generation {
		c.counters.Bad++
		c.report(now, reportIdentity, 0, Error, "heard %s, our own name and uuid, on %s with generation %d, ours is %d: is a second daemon running?", c.cfg.Node, medium, in.gen, c.cfg.Generation)
		return
	}
	if in.key.Method == wire.SHA256 && string(in.nonce) != string(c.cfg.Nonce[:]) {
		c.counters.Stale++ // an earlier life of ours
		return
	}
	c.heardOn(now, c.cfg.Node, c.links, c.medium(medium), 0)
}

// receive does the bookkeeping of section 6.2, which every packet gets whoever
// it is for, and then hands the message on.
func (c *Core) receive(now time.Time, medium string, p *peer, in *incoming) {
	on := c.medium(medium)
	if c.heardOn(now, p.name, p.links, on, p.newest) {
		c.returned(now, p, on)
	}
	if !p.heard {
		p.heard = true
		if p.status != Dead {
			p.since = now // until now its silence was that of a node never heard
		}
	}
	if !in.numbered {
		if c.repeated(p, medium, in) {
			c.counters.Duplicates++
			return
		}
		c.heardUnnumbered(now, p, medium, in)
		c.checkComplete(now)
		return
	}
	if in.gen > p.gen {
		if p.gen == 0 {
			p.gen, p.ackBase = in.gen, c.history.newest
		} else {
			c.restarted(now, p, in.gen)
		}
	}
	c.numbered(now, p, on, in.seq)
	isStatus := string(in.typ) == "status"
	if isStatus {
		// A status that comes after the dead time does not undo it: the node
		// was dead and is back (section 7).
		if p.status != Dead && now.Sub(p.since) > c.silenceLimit(p) {
			c.die(now, p)
		}
		if p.status == Dead && in.seq <= p.statusSeq {
			c.counters.Duplicates++
			return // from before its death
		}
	}
	first := !p.win.started
	fresh, added, lost := p.win.receive(in.seq)
	if first {
		p.ackSent = in.seq - 1
		p.guard.windowBegins(in.seq)
	}
	c.schedule(now, p, added)
	c.lost(p, lost)
	if !fresh && !p.guard.overtaken(in) {
		c.counters.Duplicates++
		return
	}
	if p.suspicion.on {
		c.trust(now, p, string(in.typ))
	}
	c.acknowledge(now, p)
	switch {
	case isStatus:
		c.heardStatus(now, p, in)
	case !c.isForUs(in) && !isOvert(p, in):
	case string(in.typ) == "reqnodes":
		c.answerNodes(now, p)
	case string(in.typ) == "repnodes":
		c.heardNodes(now, p, in)
	case string(in.typ) == "addnode":
		c.heardAddNode(now, p, in.Message)
	case string(in.typ) == "delnode":
		c.heardDelNode(now, p, in.Message)
	default:
		m := in.Message.Clone() // the decoder uses its memory again
		c.event(Delivered{Node: p.name, Message: m})
		if c.cfg.Ordered {
			p.order.put(held{seq: in.seq, last: in.seq, message: m})
		}
	}
	c.release(now, p)
	c.checkComplete(now)
}

// isForUs: destuuid decides, then dest; without both it is for all
// (section 4).
func (c *Core) isForUs(in *incoming) bool {
	if in.destUUID != nil {
		return string(in.destUUID) == string(c.cfg.UUID[:])
	}
	return in.dest == nil || c.isOurName(in.dest)
}

// isOvert: a node takes its groups and asks nobody (section 12, auto_failback
// legacy). This message to itself is all that tells of it.
func isOvert(p *peer, in *incoming) bool {
	return string(in.typ) == "ip-request-resp" && string(in.dest) == p.name
}

func (c *Core) isOurName(name []byte) bool {
	return string(name) == c.cfg.Node || string(bytes.ToLower(name)) == c.cfg.Node
}

// heardUnnumbered takes an NS_ message. For them dest alone says who is meant,
// except that everybody learns from a NAK. Unknown ones have no effect.
func (c *Core) heardUnnumbered(now time.Time, p *peer, medium string, in *incoming) {
	switch string(in.typ) {
	case "NS_rexmit":
		if c.isOurName(in.dest) {
			c.retransmit(now, p, in)
		}
	case "NS_ackmsg":
		if c.isOurName(in.dest) {
			c.heardAck(now, p, in)
		}
	case "NS_nak_rexmit":
		c.heardNak(now, p, in)
	case "NS_probe":
		if c.isOurName(in.dest) {
			c.heardProbe(now, p, medium, in)
		}
	case "NS_alive":
		if c.isOurName(in.dest) {
			c.heardAlive(now, p, c.medium(medium), in)
		}
	}
}
