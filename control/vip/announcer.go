package vip

import (
	"log/slog"
	"sync"
	"time"
)

// announcer repeats announcements by schedule. Its mutex is held while a pair
// is sent, so that when stop returns none is under way.
type announcer struct {
	log     *slog.Logger
	send    func(Addr) error         // sends one pair
	present func(Addr) (bool, error) // is the address still ours?
	settle  time.Duration            // see New

	mu     sync.Mutex
	closed bool
	ours   map[key]*announcement
}

// announcement is an address of ours from its first announcement until it is
// deleted; it stays, idle, when its schedule is through, for the next link-up.
type announcement struct {
	addr     Addr
	schedule schedule
	timer    *time.Timer
	round    int // counts starts, so that a timer of an older one does nothing
}

func newAnnouncer(log *slog.Logger, send func(Addr) error, present func(Addr) (bool, error)) *announcer {
	return &announcer{log: log, send: send, present: present, ours: make(map[key]*announcement)}
}

// announce sends a's first pair and starts its schedule, anew if need be.
func (n *announcer) announce(a Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	an := n.ours[a.key()]
	if an == nil {
		an = &announcement{addr: a}
		n.ours[a.key()] = an
	}
	n.start(an)
}

// again announces what lives on iface once more, after n.settle: hosts and
// switches there may have forgotten, or learnt otherwise, while the link was
// down. An empty iface means all.
func (n *announcer) again(iface, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, an := range n.ours {
		if iface != "" && an.addr.Interface != iface {
			continue
		}
		if !n.stillOurs(an) {
			n.forget(k)
			continue
		}
		n.log.Info("announcing again", "address", an.addr.IP, "interface", an.addr.Interface, "why", why, "after", n.settle)
		if n.settle <= 0 {
			n.start(an)
			continue
		}
		an.round++
		if an.timer != nil {
			an.timer.Stop()
		}
		round := an.round
		an.timer = time.AfterFunc(n.settle, func() { n.settled(an, round) })
	}
}

// settled starts the schedule of an address that survived the link's return.
func (n *announcer) settled(an *announcement, round int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stands(an, round) {
		n.start(an)
	}
}

// stop ends a's announcements. None is under way when it returns.
func (n *announcer) stop(a Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(a.key())
}

func (n *announcer) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for k := range n.ours {
		n.forget(k)
	}
}

func (n *announcer) forget(k key) {
	an := n.ours[k]
	if an == nil {
		return
	}
	an.round++
	if an.timer != nil {
		an.timer.Stop()
	}
	delete(n.ours, k)
}

func (n *announcer) start(an *announcement) {
	an.round++
	if an.timer != nil {
		an.timer.Stop()
	}
	an.schedule = begin(time.Now())
	n.pair(an)
	n.wait(an)
}

func (n *announcer) pair(an *announcement) {
	if err := n.send(an.addr); err != nil {
		n.log.Warn("announcement not sent", "address", an.addr.IP, "interface", an.addr.Interface, "error", err)
	}
}

func (n *announcer) wait(an *announcement) {
	d, more := an.schedule.next(time.Now())
	if !more {
		return
	}
	round := an.round
	an.timer = time.AfterFunc(d, func() { n.due(an, round) })
}

// due is the time for a repeat.
func (n *announcer) due(an *announcement, round int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stands(an, round) {
		n.pair(an)
		n.wait(an)
	}
}

// stands tells whether a timer that has run out still means something: it may
// have been stopped too late, and the address may have gone.
func (n *announcer) stands(an *announcement, round int) bool {
	if an.round != round {
		return false
	}
	if !n.stillOurs(an) {
		n.forget(an.addr.key())
		return false
	}
	return true
}

// stillOurs guards repeats: an address that an operator or a crash handler
// removed may belong to the peer by now. If the kernel cannot be asked the
// address counts as ours, since that is what it was a moment ago.
func (n *announcer) stillOurs(an *announcement) bool {
	ok, err := n.present(an.addr)
	if err != nil {
		n.log.Warn("cannot tell whether the address is still here", "address", an.addr.IP, "error", err)
		return true
	}
	if !ok {
		n.log.Warn("the address was removed by somebody else: its announcements end",
			"address", an.addr.IP, "interface", an.addr.Interface)
	}
	return ok
}
