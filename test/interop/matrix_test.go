package interop

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"systole/test/linuxha"
)

// cell is one cluster of the matrix: how it is configured, how it begins, and
// what happens to it. One group, which prefers ours and stays where it is.
type cell struct {
	media, auth, msgfmt string
	begin               string
	events              []string
}

// matrix has every medium with every method of authentication, every medium and
// method with both message formats, and every event with each of them all
// (TestMatrixCovers); not the full product. What happens goes there and back.
var matrix = []cell{
	{"ucast", "crc", "classic", "cold start", []string{"systole standby", "hb_standby", "ours is killed", "theirs is killed"}},
	{"ucast", "md5", "netstring", "theirs joins", []string{"hb_takeover", "theirs stops", "ours stops", "systole takeover"}},
	{"ucast", "sha1", "netstring", "ours joins", []string{"hb_standby", "ours is killed"}},

	{"bcast", "crc", "netstring", "theirs joins", []string{"hb_takeover", "hb_standby", "ours stops", "theirs is killed"}},
	{"bcast", "md5", "classic", "ours joins", []string{"systole takeover", "ours is killed"}},
	{"bcast", "sha1", "classic", "cold start", []string{"systole standby", "theirs stops"}},

	{"mcast", "crc", "netstring", "ours joins", []string{"theirs stops", "systole standby"}},
	{"mcast", "md5", "netstring", "cold start", []string{"ours is killed", "hb_standby"}},
	{"mcast", "sha1", "classic", "theirs joins", []string{"hb_takeover", "systole takeover", "ours stops", "theirs is killed"}},

	{"serial", "crc", "classic", "theirs joins", []string{"ours stops", "systole takeover"}},
	{"serial", "md5", "classic", "cold start", []string{"systole standby", "hb_standby", "hb_takeover", "theirs is killed"}},
	{"serial", "sha1", "netstring", "ours joins", []string{"theirs stops", "ours is killed"}},

	{"mcast+serial", "crc", "classic", "ours joins", []string{"the cable is cut", "theirs stops", "hb_takeover"}},
	{"ucast+serial", "md5", "netstring", "theirs joins", []string{"the LAN is cut", "systole standby", "systole takeover"}},
	{"bcast+serial", "sha1", "classic", "cold start", []string{"ours stops", "hb_standby", "ours is killed", "theirs is killed"}},
}

// moves are the events that move the group, away from ours or back to it.
var moves = map[string]struct {
	away bool
	do   func(p *pair)
}{
	"systole standby": {true, func(p *pair) {
		p.planned(func() { p.ourCommand("standby") }, "none", "all")
	}},
	"hb_takeover": {true, func(p *pair) { p.planned(func() { p.insist("hb_takeover") }, "none", "all") }},
	"ours stops": {true, func(p *pair) {
		p.planned(func() {
			p.must(p.systole.proc.Signal(syscall.SIGTERM))
			p.wait("theirs takes over", atOnce, func() bool { return p.real.Holds(vip) })
			if err := p.systole.proc.Wait(); err != nil {
				p.t.Errorf("our daemon ended with %v", err)
			}
			p.start()
		}, "none", "all")
	}},
	"ours is killed": {true, func(p *pair) {
		p.kill()
		p.wait("theirs takes over", 10*time.Second, func() bool { return p.real.Holds(vip) })
		p.start()
		p.settled("none", "all", 15*time.Second)
	}},
	"systole takeover": {false, func(p *pair) {
		p.planned(func() { p.insist("systole takeover") }, "all", "none")
	}},
	"hb_standby": {false, func(p *pair) { p.planned(func() { p.insist("hb_standby") }, "all", "none") }},
	"theirs stops": {false, func(p *pair) {
		p.planned(func() {
			p.stopReal()
			p.startReal()
		}, "all", "none")
	}},
	"theirs is killed": {false, func(p *pair) {
		p.real.Kill()
		p.wait("ours takes over", 15*time.Second, func() bool { s := p.status(); return s != nil && s.Role == "active" })
		p.real.Forget(vip)
		p.startReal()
		p.settled("all", "none", 15*time.Second)
	}},
}

// begins are how a cluster may begin, and what each then holds.
var begins = map[string]struct {
	do               func(p *pair)
	weHold, theyHold string
}{
	"cold start": {func(p *pair) {
		p.coldStart()
	}, "local", "local"},
	"theirs joins": {func(p *pair) {
		p.start()
		p.wait("ours serves alone", 15*time.Second, func() bool { s := p.status(); return s != nil && s.Holds == "all" })
		p.startReal()
	}, "all", "none"},
	"ours joins": {func(p *pair) {
		p.startReal()
		p.wait("theirs serves alone", 20*time.Second, func() bool { return p.real.Holds(vip) })
		p.start()
	}, "none", "all"},
}

func TestMatrix(t *testing.T) {
	t.Parallel()
	for i, c := range matrix {
		t.Run(fmt.Sprintf("%s %s %s", c.media, c.auth, c.msgfmt), func(t *testing.T) {
			t.Parallel()
			c.tell(t, fmt.Sprintf("interop-m%d", i+1))
		})
	}
}

func (c cell) tell(t *testing.T, prefix string) {
	p := newPair(t, setup{prefix: prefix, keepalive: 200 * time.Millisecond, deadtime: 2 * time.Second, theirDeadtime: 2 * time.Second,
		netstring: c.msgfmt == "netstring", media: strings.Split(c.media, "+"), auth: c.auth})
	begin := begins[c.begin]
	p.row(t, c.begin, nil, func() {
		begin.do(p)
		p.settled(begin.weHold, begin.theyHold, 20*time.Second)
	})
	for _, e := range c.events {
		p.row(t, e, nil, func() {
			switch e {
			case "the cable is cut":
				cable := p.paths[1].cable
				p.cutOne("serial", func() error { cable.cut.Store(true); return nil }, func() error { cable.cut.Store(false); return nil })
			case "the LAN is cut":
				p.cutOne(p.paths[0].kind, p.systole.host.Cut, p.systole.host.Plug)
			default:
				moves[e].do(p)
			}
		})
	}
	p.row(t, "every packet verifies", nil, func() { p.verified("status", "NS_ackmsg", "starting", "resource") })
}

// cutOne cuts one of two media. Each must see that link dead, and nothing else.
func (p *pair) cutOne(kind string, cut, plug func() error) {
	p.t.Helper()
	before := p.status()
	as := func(up bool) func() bool {
		word := map[bool]string{true: "up", false: "dead"}[up]
		return func() bool {
			s := p.status()
			if s == nil {
				return false
			}
			for _, m := range p.paths {
				want, wantWord := true, "up"
				if m.kind == kind {
					want, wantWord = up, word
				}
				if we, they := p.link(s, m); we != want || they != wantWord {
					return false
				}
			}
			return true
		}
	}
	p.must(cut())
	p.wait("both see one link dead", 10*time.Second, as(false))
	s := p.status()
	if s.Role != before.Role || s.Holds != before.Holds || peer(s).Status != "active" || peer(s).Generation != peer(before).Generation {
		p.t.Errorf("ours is %s, holds %s, sees theirs %s: one link was cut, the other was not", s.Role, s.Holds, peer(s).Status)
	}
	if got := p.real.Status("nodestatus", ours); got != "active" {
		p.t.Errorf("theirs sees ours %s: one link was cut, the other was not", got)
	}
	p.must(plug())
	p.wait("both see both links up", 10*time.Second, as(true))
	p.settled(before.Holds, before.Takeover.PeerHolds, 5*time.Second)
}

// insist begins a hand-over that one of their scripts has to speak for. With
// msgfmt netstring the real one loses the first word that a script of its own
// says to it, as a rule (hb_takeover from ours makes it run such a script, too).
// So it is said again; what must never be is that it is not heard then.
func (p *pair) insist(how string) {
	p.t.Helper()
	begin := func() {
		if how != "systole takeover" {
			p.theirCommand(how, "all")
			return
		}
		if out, err := p.command("takeover"); err != nil {
			p.t.Errorf("%s: %v\n%s", how, err, out)
		}
	}
	if !p.setup.netstring {
		begin()
		return
	}
	const patience = 3 * time.Second // twelve times what it takes, else
	said := func() int { return len(p.wire(theirs, "ask_resources")) }
	var begun sync.WaitGroup
	defer begun.Wait()
	for try := 1; try <= 3; try++ {
		before := said()
		begun.Go(begin) // ours waits until it is done
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if said() > before {
				return
			}
		}
		p.t.Logf("%s: theirs has lost word %d", how, try)
	}
	p.t.Errorf("%s: theirs loses each word of its scripts", how)
}

// stopReal is `heartbeat -k`. With msgfmt netstring the real one may wait for
// good for the word of a script of its own that it has lost (insist): always after
// it took over from a director that had gone, at times in the stop itself. Then
// kill -9 is what is left, and ours waits for the dead time.
func (p *pair) stopReal() {
	p.t.Helper()
	if !p.setup.netstring {
		p.real.Stop()
		return
	}
	from := len(p.real.Log(0))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.real.Run(linuxha.Daemon, "-k")
	}()
	const patience = 10 * time.Second // it ends within four
	stuck := func() bool {
		return strings.Contains(p.real.Log(from), "Shutdown delayed until current resource activity finishes")
	}
	for end := time.Now().Add(patience); time.Now().Before(end) && !stuck(); time.Sleep(50 * time.Millisecond) {
		select {
		case <-ended:
			p.real.Kill()
			return
		default:
		}
	}
	p.t.Log("heartbeat -k does not end, now kill -9")
	p.real.Kill()
	p.real.Forget(vip)
	<-ended
	p.wait("ours takes over", 15*time.Second, func() bool { s := p.status(); return s != nil && s.Role == "active" })
}

// TestMatrixCovers holds the table to what it promises.
func TestMatrixCovers(t *testing.T) {
	media := []string{"ucast", "bcast", "mcast", "serial", "two"}
	auths := []string{"crc", "md5", "sha1"}
	formats := []string{"classic", "netstring"}
	seen := map[[2]string]bool{}
	for _, c := range matrix {
		medium := c.media
		if strings.Contains(medium, "+") {
			medium = "two"
		}
		seen[[2]string{medium, c.auth}] = true
		seen[[2]string{medium, c.msgfmt}] = true
		seen[[2]string{c.auth, c.msgfmt}] = true
		away := begins[c.begin].weHold != "none"
		for _, e := range append([]string{c.begin}, c.events...) {
			for _, x := range []string{medium, c.auth, c.msgfmt} {
				seen[[2]string{x, e}] = true
			}
			if m, ok := moves[e]; ok {
				if m.away != away {
					t.Errorf("%s %s %s: %s does not follow from what is before it", c.media, c.auth, c.msgfmt, e)
				}
				away = !away
			}
		}
	}
	var events []string
	for e := range begins {
		events = append(events, e)
	}
	for e := range moves {
		events = append(events, e)
	}
	slices.Sort(events)
	for _, x := range [][2][]string{{media, auths}, {media, formats}, {auths, formats}, {media, events}, {auths, events}, {formats, events}} {
		for _, a := range x[0] {
			for _, b := range x[1] {
				if !seen[[2]string{a, b}] {
					t.Errorf("no cell with %s and %s", a, b)
				}
			}
		}
	}
}
