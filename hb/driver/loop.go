package driver

import (
	"context"
	"time"

	"systole/hb"
)

// loop owns the core. Each round it hands over what was read, lets the core do
// what is due, sends what came out, and waits for the next thing to do.
func (d *Driver) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var alarm alarm
	if d.cfg.Precise {
		if err := alarm.open(); err != nil {
			return err
		}
		defer alarm.close()
	}
	for ctx.Err() == nil {
		now := time.Now()
		// What arrived before the deadline must count before the deadline
		// does: else a node would be declared dead with its beat in the queue.
		for range len(d.in) {
			d.receive(<-d.in, now)
		}
		for range len(d.notices) {
			d.notice(<-d.notices, now)
		}
		if deadline := d.core.Deadline(); !now.Before(deadline) {
			d.setMaxLate(now.Sub(deadline))
			d.load(now)
			d.core.Tick(now)
		}
		if err := d.flush(now); err != nil {
			return err
		}

		wait := time.Until(d.core.Deadline())
		if alarm.set(wait) {
			timer.Stop()
		} else {
			timer.Reset(wait)
		}
		events, event := d.events, d.queue.first()
		if event == nil {
			events = nil
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-alarm.c:
		case g := <-d.in:
			d.receive(g, time.Now())
		case n := <-d.notices:
			d.notice(n, time.Now())
		case c := <-d.calls:
			c.f(time.Now())
			close(c.ran)
		case r := <-d.troubles:
			d.push(r)
		case events <- event:
			d.queue.pop()
		}
	}
	// What was submitted just now still goes out.
	err := d.flush(time.Now())
	for event := d.queue.first(); event != nil; event = d.queue.first() {
		select {
		case d.events <- event:
			d.queue.pop()
		default:
			return err
		}
	}
	return err
}

// receive hands one packet to the core, with the time at which it was read.
//
// If the core should have been called a keepalive ago, the loop was late, and
// its time is now. The core then sees the delay as one and can tell it
// from silence of the others; packets with old times would hide it.
func (d *Driver) receive(g *datagram, now time.Time) {
	d.core.Receive(d.when(g.at, now), g.medium, g.data)
	g.release()
}

// notice is receive for what Hosts has said.
func (d *Driver) notice(n notice, now time.Time) {
	d.core.Notice(d.when(n.at, now), n.Notice)
}

func (d *Driver) when(read, now time.Time) time.Time {
	if now.Sub(d.core.Deadline()) >= d.core.Keepalive() {
		return now
	}
	return read
}

// flush sends the packets that the core has made and queues its events.
func (d *Driver) flush(now time.Time) error {
	out := d.core.Drain()
	for _, p := range out.Packets {
		if p.Beat && !d.mayBeat(p.Again) {
			continue
		}
		if p.Answer && d.noBeats {
			continue // who may not beat must not look alive either
		}
		for i, m := range d.cfg.Media {
			if p.Medium != m.Name() && (p.Medium != "" || d.pinging[i]) {
				continue
			}
			if r, changed := d.sending[i].note(m.Send(p.Data)); changed {
				d.push(r)
				kind := hb.SendWorks
				if d.sending[i].bad {
					kind = hb.SendFailed
				}
				d.core.Notice(now, hb.Notice{Medium: m.Name(), Kind: kind})
			}
		}
	}
	if d.cfg.Hosts != nil {
		for _, node := range out.Asks {
			d.cfg.Hosts.Ask(node)
		}
	}
	if len(out.Events) > 0 || now.Sub(d.viewAt) >= viewPeriod {
		d.view.set(d.core, now)
		d.viewAt = now
	}
	for _, e := range out.Events {
		d.push(e)
	}
	if d.queue.overflown {
		return ErrOverflow
	}
	return nil
}

// mayBeat asks BeforeBeat, or for a beat that is sent again, what it answered.
func (d *Driver) mayBeat(again bool) bool {
	if again {
		return !d.noBeats
	}
	var why error
	if f := d.cfg.BeforeBeat; f != nil && !f(time.Now()) {
		why = errRefused
	}
	if r, changed := d.refusing.note(why); changed {
		d.push(r)
	}
	d.noBeats = why != nil
	if d.noBeats {
		d.refused.Add(1)
		return false
	}
	d.beats.Add(1)
	return true
}

// load passes the load average on, now and then.
func (d *Driver) load(now time.Time) {
	if d.cfg.Load != nil && now.Sub(d.loadAt) >= loadPeriod {
		d.loadAt = now
		d.core.SetLoad(d.cfg.Load())
	}
}

func (d *Driver) setMaxLate(late time.Duration) {
	if int64(late) > d.maxLate.Load() { // only the loop stores
		d.maxLate.Store(int64(late))
	}
}

func (d *Driver) push(e hb.Event) {
	if !d.queue.push(e) {
		d.reportsDropped.Add(1)
	}
}
