package host

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/hb"
	"systole/hb/media"
)

// link is what the kernel says of an interface.
type link struct {
	name    string
	index   uint32
	carrier bool // it is up, too
	gone    bool // no longer there under this name
}

// linkOf reads a message about an interface; false if it is none about a
// carrier.
func linkOf(u netlink.LinkUpdate) (l link, ok bool) {
	// A bridge tells of its ports, too, in its own way.
	if u.Family == unix.AF_BRIDGE || u.Index <= 0 {
		return l, false
	}
	l = link{index: uint32(u.Index), carrier: live(u.Flags), gone: u.Header.Type == unix.RTM_DELLINK}
	if u.Link != nil {
		l.name = u.Attrs().Name
	}
	return l, true
}

// live tells of the flags of netdevice(7) whether an interface is up and has a
// carrier: the driver's own word, and that of the state above it (802.1X, a
// bond), which comes up last.
func live(flags uint32) bool {
	const all = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	return flags&all == all
}

// watch follows the interfaces. Only its goroutine uses it.
type watch struct {
	links   map[string]*known
	pending *pending
}

// known is what is known of an interface, and who wants to know.
type known struct {
	index   uint32 // 0: it is not there
	carrier bool
	media   []string
	conns   []*conn
}

func newWatch(paths []Path, conns []*conn, p *pending) *watch {
	w := &watch{links: make(map[string]*known), pending: p}
	for _, p := range paths {
		k := w.links[p.Interface]
		if k == nil {
			k = &known{carrier: true} // so that a missing one is news
			w.links[p.Interface] = k
		}
		if !slices.Contains(k.media, p.Medium) {
			k.media = append(k.media, p.Medium)
		}
	}
	for _, c := range conns {
		k := w.links[c.cfg.Device]
		k.conns = append(k.conns, c)
	}
	return w
}

// note takes what the kernel says.
func (w *watch) note(l link) {
	for name, k := range w.links {
		switch {
		case l.name == name && !l.gone:
			w.set(k, l.index, l.carrier)
		case k.index == l.index && k.index != 0: // removed, or it has another name now
			w.set(k, 0, false)
		}
	}
}

func (w *watch) set(k *known, index uint32, carrier bool) {
	// One that was replaced while nobody looked had no carrier meanwhile; that
	// is over, and the media notice by themselves.
	if k.carrier != carrier {
		kind := hb.CarrierLost
		if carrier {
			kind = hb.CarrierBack
		}
		for _, m := range k.media {
			w.pending.add(hb.Notice{Medium: m, Kind: kind})
		}
	}
	k.index, k.carrier = index, carrier
	for _, c := range k.conns {
		c.follow(index)
	}
}

// subscription is the kernel's messages about interfaces, until an error.
type subscription struct {
	updates chan netlink.LinkUpdate
	stop    chan struct{}
}

// subscribe subscribes, and takes note of the present state: what changes
// meanwhile is told of afterwards.
func (w *watch) subscribe() (*subscription, error) {
	s := &subscription{make(chan netlink.LinkUpdate), make(chan struct{})}
	// An error ends the subscription and closes updates, which says enough.
	opts := netlink.LinkSubscribeOptions{ErrorCallback: func(error) {}}
	if err := netlink.LinkSubscribeWithOptions(s.updates, s.stop, opts); err != nil {
		close(s.stop)
		return nil, fmt.Errorf("following the carriers: %w", err)
	}
	for name, k := range w.links {
		l, err := netlink.LinkByName(name)
		switch {
		case errors.As(err, &netlink.LinkNotFoundError{}):
			w.set(k, 0, false)
		case err != nil:
			s.close()
			return nil, fmt.Errorf("following the carrier of interface %s: %w", name, err)
		default:
			w.set(k, uint32(l.Attrs().Index), live(l.Attrs().RawFlags))
		}
	}
	return s, nil
}

// close ends the subscription's goroutine, which may be waiting to deliver.
func (s *subscription) close() {
	close(s.stop)
	for range s.updates {
	}
}

// run follows the subscription, and new ones when it breaks off, as when there
// were more messages than it had room for.
func (w *watch) run(s *subscription, done <-chan struct{}) {
	var backoff media.Backoff
	for {
		if s == nil {
			if !backoff.Wait(done) {
				return
			}
			s, _ = w.subscribe() // else again, soon
			continue
		}
		select {
		case <-done:
			s.close()
			return
		case u, ok := <-s.updates:
			if !ok {
				close(s.stop)
				s = nil
				continue
			}
			backoff.Reset()
			if l, ok := linkOf(u); ok {
				w.note(l)
			}
		}
	}
}
