package interop

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"systole/test/netlab"
)

// TestPartitionHeals is the story of a cable that is cut and plugged in again,
// and of "msgfmt netstring".
func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	p := newPair(t, setup{prefix: "interop-cut", keepalive: 200 * time.Millisecond, deadtime: 2 * time.Second,
		theirDeadtime: 2 * time.Second, netstring: true})
	p.row(t, "theirs joins ours", nil, func() {
		p.start()
		p.wait("ours serves alone", 15*time.Second, func() bool { s := p.status(); return s != nil && s.Holds == "all" })
		p.startReal()
		p.settled("all", "none", 15*time.Second)
	})
	p.row(t, "what ours lost is sent again", nil, func() {
		p.shortCut(theirs, func() error { _, err := p.command("standby"); return err }, "none", "all")
	})
	p.row(t, "what theirs lost is sent again", nil, func() {
		p.shortCut(ours, nil, "none", "all")
	})
	p.row(t, "ours takes theirs for dead", []string{"Both machines own"}, func() {
		p.judged()
		p.deaf(func() {
			p.wait("ours takes over", 10*time.Second, func() bool { s := p.status(); return s != nil && s.Role == "active" })
		})
		p.settled("none", "all", 20*time.Second) // which never knew, and never lets go
	})
	// The real one's own words on a heal; it then starts itself anew (section 11).
	split := []string{"returning after partition", "Late heartbeat", "Both machines own"}
	p.row(t, "parted and together again", split, func() {
		p.judged()
		p.must(p.systole.host.Cut())
		p.wait("both serve", 10*time.Second, func() bool {
			s := p.status()
			return s != nil && s.Role == "active" && s.Lease == "unlimited" && p.real.Holds(vip) &&
				p.real.Status("nodestatus", ours) == "dead"
		})
		from := len(p.systole.log.String())
		p.must(p.systole.host.Plug())
		p.wait("theirs restarts and lets go", 15*time.Second, func() bool { return !p.real.Holds(vip) })
		p.settled("all", "none", 25*time.Second)
		if log := p.systole.log.String()[from:]; strings.Contains(log, "address removed") {
			p.t.Errorf("ours let go of its address, though theirs was to restart:\n%s", log)
		}
	})
}

// deaf keeps theirs' packets, and nothing else, from ours while f runs: theirs
// believes in a MAC address of ours that nobody has.
func (p *pair) deaf(f func()) {
	p.t.Helper()
	nl := p.lab.Host(theirs).Netlink()
	link, err := nl.LinkByName(netlab.NIC)
	p.must(err)
	n := netlink.Neigh{LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: addrs[ours].AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	p.must(nl.NeighSet(&n))
	defer func() { p.must(nl.NeighDel(&n)) }()
	f()
}

// shortCut pulls a node's cable for less than the dead time while the other one
// sends beats and, if handover is given, begins one: all lost on the switch. It
// asks for them and gets them (heartbeat-wire.md section 6.3), and the hand-over
// is done.
func (p *pair) shortCut(asker string, handover func() error, weHold, theyHold string) {
	p.t.Helper()
	from := time.Now()
	p.must(p.lab.Host(asker).Cut())
	done := make(chan error, 1)
	go func() {
		if handover == nil {
			done <- nil
			return
		}
		done <- handover()
	}()
	time.Sleep(4 * p.setup.keepalive) // for some beats to be lost, too
	p.must(p.lab.Host(asker).Plug())
	p.must(<-done)
	p.settled(weHold, theyHold, 15*time.Second)

	other := map[string]string{ours: theirs, theirs: ours}[asker]
	asked, missing := 0, ""
	p.wait("what is asked for arrives", 5*time.Second, func() bool {
		asked, missing = p.answered(asker, other, from)
		return asked > 0 && missing == ""
	})
	p.t.Logf("%s asked for %d messages and got them", asker, asked)
}

// answered counts the messages that asker asked other for since then, and names
// one that did not arrive.
func (p *pair) answered(asker, other string, since time.Time) (asked int, missing string) {
	got := p.wire(other, "") // as it arrived
	for _, m := range p.wire(asker, "NS_rexmit") {
		if m.at.Before(since) {
			continue
		}
		first, err1 := strconv.ParseUint(m.get("firstseq"), 10, 64) // decimal: section 4
		last, err2 := strconv.ParseUint(m.get("lastseq"), 10, 64)
		if m.get("dest") != other || err1 != nil || err2 != nil || first > last {
			p.t.Fatalf("asked by %s: %s", asker, m)
		}
		for ; first <= last; first++ {
			asked++
			if !slices.ContainsFunc(got, func(r packet) bool { return r.at.After(since) && r.number("seq") == first }) {
				missing = fmt.Sprintf("%s asked for message %d and did not get it", asker, first)
			}
		}
	}
	return asked, missing
}
