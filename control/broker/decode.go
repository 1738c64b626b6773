package broker

import (
	"bytes"
	"time"
	"unicode/utf8"

	"systole/control/client"
	"systole/hb"
	"systole/hb/wire"
)

// delivered is the one place that knows in which event the heartbeat hands over
// a message to programs: in the order of its sender.
func delivered(ev hb.Event) (d hb.Ordered, ok bool) {
	d, ok = ev.(hb.Ordered)
	return d, ok
}

// forDirector reports whether the director needs the event: all but the
// messages of programs. Its own it takes as they come.
func forDirector(ev hb.Event) bool {
	switch e := ev.(type) {
	case hb.Ordered, hb.Gap:
		return false
	case hb.Delivered:
		return Reserved(e.Message.Type())
	}
	return true
}

// kindOf is the kind under which programs ask for an event; "" if it is not for
// them.
func kindOf(ev hb.Event) client.Kind {
	switch ev.(type) {
	case hb.NodeChanged, hb.Joined:
		return client.KindNode
	case hb.LinkChanged:
		return client.KindLink
	case hb.Gap:
		return client.KindMessage
	}
	if _, ok := delivered(ev); ok {
		return client.KindMessage
	}
	return ""
}

// sizeOf is about how much memory an event holds.
func sizeOf(ev hb.Event) int {
	const fixed = 200
	d, ok := delivered(ev)
	if !ok {
		return fixed
	}
	n := fixed
	for _, f := range d.Message.Fields {
		n += len(f.Name) + len(f.Value) + 48
	}
	return n
}

// record is an event as programs see it; self is our own node.
func record(ev hb.Event, at time.Time, self string) client.Event {
	r := client.Event{At: at}
	switch e := ev.(type) {
	case hb.NodeChanged:
		r.Kind, r.Node, r.Status, r.Why = client.KindNode, e.Node, string(e.To), e.Why
	case hb.Joined:
		r.Kind, r.Node, r.Status, r.Why = client.KindNode, self, string(hb.Active), "the cluster is complete"
	case hb.LinkChanged:
		r.Kind, r.Node, r.Medium, r.State = client.KindLink, e.Node, e.Medium, e.State.String()
		if !e.Up {
			r.Why = "silent for " + e.Silence.Round(time.Millisecond).String()
		}
		if e.Why != "" {
			r.Why = e.Why
		}
	case hb.Gap:
		r.Kind, r.Node, r.First, r.Last, r.Why = client.KindLost, e.Node, e.First, e.Last, e.String()
	default:
		if d, ok := delivered(ev); ok {
			message(&r, d)
		}
	}
	r.Self = r.Node == self
	return r
}

// message fills in a message's part of an event.
func message(r *client.Event, d hb.Ordered) {
	r.Kind, r.Node, r.Type = client.KindMessage, d.Node, d.Message.Type()
	r.Seq, _ = d.Message.GetUint("seq", 16)
	r.Generation, _ = d.Message.GetUint("hg", 16)
	r.Dest, _ = d.Message.Get("dest")
	seen := make(map[string]bool, len(d.Message.Fields))
	for _, name := range ownFields {
		seen[name] = true
	}
	for _, f := range d.Message.Fields {
		if seen[f.Name] {
			continue // of two with one name the first counts
		}
		seen[f.Name] = true
		if f.Type == wire.String && utf8.Valid(f.Value) {
			if r.Fields == nil {
				r.Fields = make(map[string]string)
			}
			r.Fields[f.Name] = string(f.Value)
			continue
		}
		if r.Binary == nil {
			r.Binary = make(map[string][]byte)
		}
		r.Binary[f.Name] = bytes.Clone(f.Value)
	}
}

// snapshot is how nodes and links are, for a new subscription.
func snapshot(v hb.View, at time.Time, f Filter) []client.Event {
	var out []client.Event
	add := func(e client.Event) {
		if f.wantsKind(e.Kind) {
			e.At, e.Snapshot = at, true
			out = append(out, e)
		}
	}
	add(client.Event{Kind: client.KindNode, Node: v.Node, Self: true, Status: string(v.Status), Generation: v.Generation})
	for _, p := range v.Peers {
		add(client.Event{Kind: client.KindNode, Node: p.Name, Status: string(p.Status), Generation: p.Generation})
	}
	for _, p := range v.Pings {
		add(client.Event{Kind: client.KindNode, Node: p.Name, Status: string(p.Status)})
	}
	for _, p := range v.Peers {
		for _, l := range p.Links {
			if l.Age < 0 {
				continue // never heard: there is nothing to tell yet
			}
			add(client.Event{Kind: client.KindLink, Node: p.Name, Medium: l.Medium, State: l.State.String()})
		}
	}
	return out
}
