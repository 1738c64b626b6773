package probe

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/packet"
	"github.com/miekg/dns"

	"systole/test/netlab"
)

// maxTicks is how many questions an ownership probe can number.
const maxTicks = 1 << 16

// Director is one that may own the address.
type Director struct {
	Name string
	MAC  net.HardwareAddr
}

// OwnershipConfig describes an ownership probe.
type OwnershipConfig struct {
	Host      *netlab.Host
	VIP       netip.Addr
	Port      uint16        // of a DNS service over UDP on the VIP
	Name      string        // asked for
	Directors []Director    // at most 8
	Interval  time.Duration // default 5 ms
}

// Tick is one round of questions and who answered them, as bits by the order
// of the directors.
type Tick struct {
	At           time.Duration // since the start
	ARP, Forward uint8
}

// Ownership is a running probe. Every Interval it asks by ARP who has the
// address, and sends each director a DNS question of its own, to that
// director's MAC address: if an answer comes, its data plane forwarded.
type Ownership struct {
	cfg   OwnershipConfig
	start time.Time
	stop  chan struct{}
	wg    sync.WaitGroup
	rd    sync.WaitGroup
	arp   *packet.Conn
	raw   *packet.Conn
	udp   []net.PacketConn // by director: the source of its questions

	closing atomic.Bool

	mu        sync.Mutex
	ticks     []Tick
	strangers map[string]int
}

// StartOwnership starts a probe.
func StartOwnership(cfg OwnershipConfig) (_ *Ownership, err error) {
	if len(cfg.Directors) == 0 || len(cfg.Directors) > 8 {
		return nil, fmt.Errorf("ownership probe: %d directors: 1 to 8", len(cfg.Directors))
	}
	if cfg.Interval == 0 {
		cfg.Interval = 5 * time.Millisecond
	}
	o := &Ownership{cfg: cfg, stop: make(chan struct{}), strangers: make(map[string]int)}
	defer func() {
		if err != nil {
			o.closeAll()
			err = fmt.Errorf("ownership probe: %w", err)
		}
	}()
	if o.arp, err = cfg.Host.ListenRaw(etherARP); err != nil {
		return nil, err
	}
	// Only written to: the EtherType for local experiments (IEEE 802), which
	// nobody sends here, keeps its queue empty.
	if o.raw, err = cfg.Host.ListenRaw(0x88b5); err != nil {
		return nil, err
	}
	for range cfg.Directors {
		pc, err := cfg.Host.ListenPacket("udp4", netip.AddrPortFrom(cfg.Host.Addr.Addr(), 0).String())
		if err != nil {
			return nil, err
		}
		o.udp = append(o.udp, pc)
	}
	question, err := new(dns.Msg).SetQuestion(dns.Fqdn(cfg.Name), dns.TypeA).Pack()
	if err != nil {
		return nil, err
	}
	o.start = time.Now()
	o.rd.Go(o.readARP)
	for i, pc := range o.udp {
		o.rd.Go(func() { o.readUDP(i, pc) })
	}
	o.wg.Go(func() {
		pace(o.stop, cfg.Interval, func() { o.ask(question) })
	})
	return o, nil
}

func (o *Ownership) ask(question []byte) {
	o.mu.Lock()
	tick := len(o.ticks)
	if tick == maxTicks {
		o.mu.Unlock()
		return // 5 minutes at 5 ms: the probe has seen enough
	}
	o.ticks = append(o.ticks, Tick{At: time.Since(o.start)})
	o.mu.Unlock()

	var buf [256]byte
	// What cannot be sent finds no owner, which is what there is to say.
	frame := whoHas(buf[:0], uint32(tick), o.cfg.VIP)
	_, _ = o.raw.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	question[0], question[1] = byte(tick>>8), byte(tick)
	for i, d := range o.cfg.Directors {
		from := o.udp[i].LocalAddr().(*net.UDPAddr).AddrPort()
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		frame := datagram(buf[:0], d.MAC, o.cfg.Host.MAC, from, netip.AddrPortFrom(o.cfg.VIP, o.cfg.Port), question)
		_, _ = o.raw.WriteTo(frame, &packet.Addr{HardwareAddr: d.MAC})
	}
}

func (o *Ownership) readARP() {
	buf := make([]byte, 1500)
	for {
		n, _, err := o.arp.ReadFrom(buf)
		if err != nil {
			if o.closing.Load() {
				return
			}
			continue // ENETDOWN is told once, when the cable is cut
		}
		owner, tick, ok := isAt(buf[:n], o.cfg.VIP)
		if !ok {
			continue
		}
		i := slices.IndexFunc(o.cfg.Directors, func(d Director) bool { return d.MAC.String() == owner.String() })
		o.mu.Lock()
		switch {
		case i < 0:
			o.strangers[owner.String()]++
		case int(tick) < len(o.ticks):
			o.ticks[tick].ARP |= 1 << i
		}
		o.mu.Unlock()
	}
}

func (o *Ownership) readUDP(director int, pc net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, _, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !answers(buf[:n]) {
			continue
		}
		tick := int(buf[0])<<8 | int(buf[1])
		o.mu.Lock()
		if tick < len(o.ticks) {
			o.ticks[tick].Forward |= 1 << director
		}
		o.mu.Unlock()
	}
}

// Stop ends the probe and says what it saw. Answers under way get 20 ms.
func (o *Ownership) Stop() Owners {
	close(o.stop)
	o.wg.Wait()
	// Nothing says that the last answer has come, when none may.
	time.Sleep(20 * time.Millisecond)
	o.closing.Store(true)
	o.closeAll()
	o.rd.Wait()
	names := make([]string, len(o.cfg.Directors))
	for i, d := range o.cfg.Directors {
		names[i] = d.Name
	}
	r := judge(o.ticks, names)
	r.Strangers = o.strangers
	return r
}

func (o *Ownership) closeAll() {
	if o.arp != nil {
		o.arp.Close()
	}
	if o.raw != nil {
		o.raw.Close()
	}
	for _, pc := range o.udp {
		pc.Close()
	}
}

// Owners is what an ownership probe saw.
type Owners struct {
	Ticks   int            // questions asked
	Nobody  int            // that nobody answered, in neither way
	ARP     map[string]int // answers by director
	Forward map[string]int
	// TwoARP, TwoForward and Two count the ticks that two directors answered:
	// by ARP, by forwarding, and in whichever way each. While a planned
	// hand-over lasts two may forward, which is its point; two owners by ARP
	// are never right.
	TwoARP, TwoForward, Two int
	// First is when that was seen first, since the start; Never if it was not.
	First time.Duration
	// Strangers are MAC addresses that answered by ARP and are no director's:
	// a real server without arp_ignore.
	Strangers map[string]int
}

// judge counts. It is pure.
func judge(ticks []Tick, names []string) Owners {
	r := Owners{
		Ticks: len(ticks), First: Never,
		ARP: make(map[string]int), Forward: make(map[string]int),
	}
	for _, t := range ticks {
		for i, n := range names {
			if t.ARP>>i&1 != 0 {
				r.ARP[n]++
			}
			if t.Forward>>i&1 != 0 {
				r.Forward[n]++
			}
		}
		if t.ARP|t.Forward == 0 {
			r.Nobody++
		}
		if bits.OnesCount8(t.ARP) > 1 {
			r.TwoARP++
		}
		if bits.OnesCount8(t.Forward) > 1 {
			r.TwoForward++
		}
		if bits.OnesCount8(t.ARP|t.Forward) > 1 {
			if r.Two == 0 {
				r.First = t.At
			}
			r.Two++
		}
	}
	return r
}

// String is one line for people: "node2 (181 of 200), nobody 19".
func (r Owners) String() string {
	seen := make(map[string]int)
	for n, c := range r.ARP {
		seen[n] = c
	}
	for n, c := range r.Forward {
		seen[n] = max(seen[n], c)
	}
	out := ""
	for _, n := range slices.Sorted(maps.Keys(seen)) {
		out += fmt.Sprintf("%s %d, ", n, seen[n])
	}
	return fmt.Sprintf("%snobody %d of %d questions", out, r.Nobody, r.Ticks)
}
