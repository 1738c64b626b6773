package hb

import (
	"strconv"
	"time"

	"systole/hb/wire"
)

// builder puts a message together without allocating once it has grown: the
// values are parts of one buffer. What it returns is valid until reset.
type builder struct {
	fields []wire.Field
	buf    []byte
}

func (b *builder) reset() { b.fields, b.buf = b.fields[:0], b.buf[:0] }

func (b *builder) message() wire.Message { return wire.Message{Fields: b.fields} }

// value ends the value that begins at start. A later growth of buf leaves it
// where it is.
func (b *builder) value(name string, t wire.FieldType, start int) {
	v := b.buf[start:len(b.buf):len(b.buf)]
	b.fields = append(b.fields, wire.Field{Name: name, Type: t, Value: v})
}

func (b *builder) text(name, value string) {
	start := len(b.buf)
	b.buf = append(b.buf, value...)
	b.value(name, wire.String, start)
}

func (b *builder) binary(name string, value []byte) {
	start := len(b.buf)
	b.buf = append(b.buf, value...)
	b.value(name, wire.Binary, start)
}

func (b *builder) number(name string, n uint64, base int) {
	start := len(b.buf)
	b.buf = strconv.AppendUint(b.buf, n, base)
	b.value(name, wire.String, start)
}

// common appends the common fields in the order of section 4. seq 0 means a
// message without number (NS_*), which carries no load either. dest may be
// nil.
func (c *Core) common(b *builder, now time.Time, seq uint64, destUUID []byte) {
	if destUUID != nil {
		b.binary("destuuid", destUUID)
	}
	b.text("src", c.cfg.Node)
	b.binary("srcuuid", c.cfg.UUID[:])
	if seq != 0 {
		b.number("seq", seq, 16)
	}
	b.number("hg", c.cfg.Generation, 16)
	// Receivers drop a message whose time is zero, and a machine without a
	// clock starts in 1970.
	b.number("ts", uint64(max(1, now.Unix())), 16)
	if seq != 0 && c.load != "" {
		b.text("ld", c.load)
	}
	// ttl is "hopfudge" (1) plus the number of nodes, ping nodes among them.
	b.number("ttl", uint64(1+len(c.cfg.Nodes)+len(c.pings)), 10)
	if c.guard.on {
		c.seal(b, seq != 0)
	}
}

// emit encodes the message and queues it on every medium; with a number it
// also goes into the history.
func (c *Core) emit(m wire.Message, seq uint64, beat bool) error {
	mark := len(c.out.arena)
	arena, err := wire.Encode(c.out.arena, m, c.cfg.Format, c.cfg.Keys)
	if err != nil {
		return err
	}
	data := arena[mark:len(arena):len(arena)]
	if len(data) > maxPacket {
		return wire.ErrTooLong
	}
	c.out.arena = arena
	c.out.packets = append(c.out.packets, Packet{Data: data, Beat: beat})
	if seq != 0 {
		c.history.put(data, beat, c.guard.epoch)
	}
	return nil
}

// begin starts a message of our own protocol, in memory that is used again for
// the next one.
func (c *Core) begin(t string) *builder {
	c.build.reset()
	c.build.text("t", t)
	return &c.build
}

// finish completes and sends what begin began. It can fail only if the
// configuration was not good, which New has excluded.
func (c *Core) finish(b *builder, now time.Time, sequenced, beat bool, destUUID []byte) {
	var seq uint64
	if sequenced {
		seq = c.history.newest + 1
	}
	c.common(b, now, seq, destUUID)
	if err := c.emit(b.message(), seq, beat); err != nil {
		c.report(now, reportEncode, 0, Error, "own message could not be sent: %v", err)
	}
	if sequenced {
		c.watchBacklog(now)
	}
}

// sendStatus tells everybody how we are (section 5).
func (c *Core) sendStatus(now time.Time) {
	b := c.begin("status")
	b.text("st", string(c.status))
	b.number("dt", uint64(c.ownDeadtime()/time.Millisecond), 16)
	b.text("protocol", "1")
	b.text("systole", "1")
	b.number("ka", uint64((c.cfg.Keepalive+time.Millisecond-1)/time.Millisecond), 16)
	if c.ends {
		b.text("ends", "1")
	}
	c.finish(b, now, true, true, nil)
	c.lastBeat = now
	c.askPings(now)
}

// outbox collects output. Packets are parts of arena.
type outbox struct {
	arena   []byte
	packets []Packet
	events  []Event
	asks    []string
}

// keepArena is how much memory is kept for the next packets after a burst.
const keepArena = 1 << 20

func (o *outbox) reset() {
	if cap(o.arena) > keepArena {
		o.arena = nil
	}
	clear(o.packets)
	clear(o.events)
	o.arena, o.packets, o.events, o.asks = o.arena[:0], o.packets[:0], o.events[:0], o.asks[:0]
}
