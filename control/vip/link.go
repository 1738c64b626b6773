package vip

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// link is what matters about an interface.
type link struct {
	name string
	up   bool // administratively up and with a carrier
	mac  net.HardwareAddr
}

func linkOf(a *netlink.LinkAttrs) link {
	const live = unix.IFF_UP | unix.IFF_RUNNING
	return link{name: a.Name, up: a.RawFlags&live == live, mac: a.HardwareAddr}
}

// links remembers the interfaces by index, to tell what a message changes.
type links map[int]link

// change is what a link message means to us.
type change struct {
	stale    []string // names whose sockets no longer fit
	announce string   // name of the interface to announce on, if not empty
	why      string
}

// set takes the new state of an interface.
func (l links) set(index int, now link) change {
	old, known := l[index]
	l[index] = now
	var c change
	if known && old.name != now.name {
		c.stale = append(c.stale, old.name)
	}
	if !known || old.name != now.name || !bytes.Equal(old.mac, now.mac) {
		c.stale = append(c.stale, now.name)
	}
	switch {
	case !now.up:
	case !known || !old.up:
		c.announce, c.why = now.name, "link up"
	case !bytes.Equal(old.mac, now.mac):
		c.announce, c.why = now.name, "hardware address changed"
	}
	return c
}

// remove takes the end of an interface.
func (l links) remove(index int) change {
	old, known := l[index]
	delete(l, index)
	if !known {
		return change{}
	}
	return change{stale: []string{old.name}}
}

// linkWatch follows the interfaces until it is closed.
type linkWatch struct {
	log       *slog.Logger
	subscribe func() (*subscription, error)
	changed   func(change)
	stop      chan struct{}
	done      chan struct{}
}

// watchLinks begins to follow the interfaces. changed is called from a
// goroutine of its own.
func watchLinks(log *slog.Logger, subscribe func() (*subscription, error), changed func(change)) (*linkWatch, error) {
	w := &linkWatch{log, subscribe, changed, make(chan struct{}), make(chan struct{})}
	s, err := subscribe()
	if err != nil {
		return nil, err
	}
	go w.run(s)
	return w, nil
}

func (w *linkWatch) close() {
	close(w.stop)
	<-w.done
}

func (w *linkWatch) run(s *subscription) {
	defer close(w.done)
	for {
		lost := w.follow(s)
		s.close()
		if !lost {
			return
		}
		if s = w.resubscribe(); s == nil {
			return
		}
		// Messages were lost, and a link-up may have been among them.
		w.changed(change{announce: "", why: "link messages were lost"})
	}
}

// follow is false when it was told to stop, true when the subscription broke.
func (w *linkWatch) follow(s *subscription) (lost bool) {
	for {
		select {
		case <-w.stop:
			return false
		case u, ok := <-s.updates:
			if !ok {
				w.log.Warn("link messages were lost, subscribing again")
				return true
			}
			// Bridges send messages of their own family about their ports.
			if u.Family != unix.AF_UNSPEC {
				continue
			}
			var c change
			if u.Header.Type == unix.RTM_DELLINK {
				c = s.links.remove(int(u.Index))
			} else {
				c = s.links.set(int(u.Index), linkOf(u.Link.Attrs()))
			}
			if c.announce != "" || len(c.stale) > 0 {
				w.changed(c)
			}
		}
	}
}

func (w *linkWatch) resubscribe() *subscription {
	for {
		s, err := w.subscribe()
		if err == nil {
			return s
		}
		w.log.Warn("cannot follow the interfaces", "error", err)
		select {
		case <-w.stop:
			return nil
		case <-time.After(time.Second):
		}
	}
}

// subscription is a netlink subscription and the state it began with.
type subscription struct {
	updates chan netlink.LinkUpdate
	stop    chan struct{}
	links   links
}

func newSubscription() *subscription {
	return &subscription{make(chan netlink.LinkUpdate), make(chan struct{}), make(links)}
}

func subscribe(h *netlink.Handle) (*subscription, error) {
	s := newSubscription()
	// An error ends the subscription and closes updates, which says enough.
	opts := netlink.LinkSubscribeOptions{ErrorCallback: func(error) {}}
	if err := netlink.LinkSubscribeWithOptions(s.updates, s.stop, opts); err != nil {
		close(s.stop)
		return nil, fmt.Errorf("subscribing to link messages: %w", err)
	}
	all, err := h.LinkList()
	if err != nil {
		s.close()
		return nil, fmt.Errorf("listing the interfaces: %w", err)
	}
	for _, l := range all {
		s.links[l.Attrs().Index] = linkOf(l.Attrs())
	}
	return s, nil
}

// close ends the subscription's goroutine, which may be waiting to deliver.
func (s *subscription) close() {
	close(s.stop)
	for range s.updates {
	}
}
