package neighbour

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Watcher follows the addresses it is given with Set while Run runs.
type Watcher struct {
	log    *slog.Logger
	report func(Update)

	mu      sync.Mutex
	wanted  []netip.Addr
	changed chan struct{} // wanted was set

	// Replaced by tests.
	subscribe func() (*subscription, error)
	refresh   time.Duration
	rush      time.Duration
}

// New returns a watcher that tells report what it learns. report is called
// from Run, one update at a time; Set may be called meanwhile.
func New(log *slog.Logger, report func(Update)) *Watcher {
	return &Watcher{
		log: log, report: report,
		changed:   make(chan struct{}, 1),
		subscribe: subscribe,
		refresh:   refresh,
		rush:      rush,
	}
}

// Set makes addrs the addresses to follow, before Run or at any time during
// it. It does not wait. Nothing more is reported about an address that is not
// among them, but an update already under way; an address that comes back is
// reported again.
func (w *Watcher) Set(addrs []netip.Addr) {
	w.mu.Lock()
	w.wanted = slices.Clone(addrs)
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Run follows the addresses until ctx ends. It fails only if it cannot begin.
func (w *Watcher) Run(ctx context.Context) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer h.Close()
	sub, err := w.subscribe()
	if err != nil {
		return err
	}
	defer func() {
		if sub != nil {
			sub.close()
		}
	}()
	since := time.Now()
	arp := newRequester(h, w.log)
	defer arp.close()

	t := newTable()
	t.refresh, t.rush = w.refresh, w.rush
	t.set(w.want(), since)
	for {
		w.ask(h, arp, t)
		timer := time.NewTimer(wait(t.next(), time.Now()))
		var lost bool
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
			t.set(w.want(), time.Now())
		case u, ok := <-sub.updates:
			lost = !ok
			if ev, mine := eventOf(u); ok && mine {
				w.tell(t.hear(ev, time.Now()))
			}
		case u, ok := <-sub.links:
			lost = !ok
			if ifindex, up, mine := carrierOf(u); ok && mine {
				t.carrier(ifindex, up, time.Now())
				if u.Header.Type == unix.RTM_DELLINK {
					t.remove(ifindex)
					arp.drop(ifindex)
				}
			}
		case <-sub.broken:
			lost = true
		case <-timer.C:
		}
		timer.Stop()
		if !lost {
			continue
		}
		w.log.Warn("neighbour or link messages were lost: reading the tables again")
		sub.close()
		if sub = w.again(ctx, time.Since(since)); sub == nil {
			return nil
		}
		since = time.Now()
		t.forget(since)
	}
}

// again subscribes anew, at most once a second, until it succeeds; nil when
// ctx ended.
func (w *Watcher) again(ctx context.Context, lasted time.Duration) *subscription {
	for d := retry - lasted; ; d = retry {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d):
		}
		sub, err := w.subscribe()
		if err == nil {
			return sub
		}
		w.log.Warn("cannot follow the neighbours", "error", err)
	}
}

func (w *Watcher) want() []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanted
}

func (w *Watcher) tell(us []Update) {
	for _, u := range us {
		w.log.Debug("neighbour", "address", u.Addr, "mac", u.MAC, "why", u.Why)
		w.report(u)
	}
}

// ask has the kernel resolve what is due, and asks the LAN itself for what is
// in a hurry. The kernel must come first: it takes an answer only for an entry
// that it has (net/ipv4/arp.c, arp_process).
func (w *Watcher) ask(h *netlink.Handle, arp *requester, t *table) {
	now := time.Now()
	for _, a := range t.due(now) {
		p := lookup(h, a)
		if p.why == "" {
			if err := use(h, p.hop(a), p.ifindex); err != nil {
				p.why = fmt.Sprintf("the kernel does not resolve it on %s: %v", p.iface, err)
			}
		}
		if t.insist(a, p, now) {
			arp.request(p.hop(a), p)
		}
		w.tell(t.asked(a, p, now))
	}
}

// wait is the time from now until at; a zero at is far away.
func wait(at, now time.Time) time.Duration {
	if at.IsZero() {
		return time.Hour
	}
	return max(0, at.Sub(now))
}
