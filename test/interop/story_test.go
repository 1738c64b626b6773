package interop

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"systole/control"
	"systole/test/linuxha"
)

// atOnce is how long a take-over may take that waits for no dead time: the
// real one looks at its packets every 250 ms or so (heartbeat-wire.md section
// 15) and its scripts take half a second on an idle machine.
const atOnce = 5 * time.Second

// TestOneGroupAutoFailbackOff is the story of a group that prefers ours and
// stays where it is. The real one counts the groups that prefer it, none, as
// held: so it holds "local" while ours serves.
func TestOneGroupAutoFailbackOff(t *testing.T) {
	t.Parallel()
	p := newPair(t, setup{prefix: "interop-off", keepalive: 200 * time.Millisecond, deadtime: 2 * time.Second,
		theirDeadtime: 3 * time.Second})
	p.row(t, "cold start", nil, func() {
		p.coldStart()
		p.settled("local", "local", 15*time.Second)
	})
	p.row(t, "systole standby", nil, func() {
		p.planned(func() { p.ourCommand("standby") }, "none", "all")
	})
	p.row(t, "systole takeover", nil, func() {
		p.planned(func() { p.ourCommand("takeover") }, "all", "none")
	})
	p.row(t, "hb_takeover", nil, func() {
		p.planned(func() { p.theirCommand("hb_takeover", "all") }, "none", "all")
	})
	p.row(t, "hb_standby", nil, func() {
		p.planned(func() { p.theirCommand("hb_standby", "all") }, "all", "none")
	})
	p.row(t, "ours stops", nil, func() {
		p.planned(func() {
			began := time.Now()
			p.must(p.systole.proc.Signal(syscall.SIGTERM))
			p.wait("theirs takes over", atOnce, func() bool { return p.real.Holds(vip) })
			p.t.Logf("theirs has the address %v after SIGTERM", time.Since(began).Round(time.Millisecond))
			<-p.systole.proc.Done()
			if err := p.systole.proc.Wait(); err != nil {
				p.t.Errorf("our daemon ended with %v", err)
			}
			p.start()
		}, "none", "all")
	})
	p.row(t, "theirs stops", nil, func() {
		p.planned(func() {
			p.real.Stop() // returns seconds after its "shutdone"
			if s := p.status(); s.Role != "active" || peer(s).Status != "active" {
				p.t.Errorf("when theirs has ended ours is %s and sees it as %s: it waited for a death", s.Role, peer(s).Status)
			}
			p.startReal()
		}, "all", "none")
	})
	p.row(t, "ours is killed", nil, func() {
		own := p.owners()
		time.Sleep(300 * time.Millisecond) // for the probe to have seen ours
		p.kill()
		p.wait("theirs takes over", 10*time.Second, func() bool { return p.real.Holds(vip) })
		time.Sleep(300 * time.Millisecond) // and theirs
		o := own.Stop()
		p.t.Logf("owners: %v", o)
		if o.Two != 0 || o.Forward[ours] == 0 || o.ARP[theirs] == 0 {
			p.t.Errorf("two owners in %d of %d questions, first after %v; forwarded by ours %d, ARP answered by theirs %d",
				o.Two, o.Ticks, o.First, o.Forward[ours], o.ARP[theirs])
		}
		p.start()
		p.settled("none", "all", 10*time.Second)
	})
	p.row(t, "theirs is killed", nil, func() {
		p.judged()
		killed := time.Now()
		p.real.Kill()
		p.wait("ours takes over", 10*time.Second, func() bool { s := p.status(); return s != nil && s.Role == "active" })
		took := time.Since(killed)
		p.t.Logf("ours serves %v after the kill", took.Round(time.Millisecond))
		// The dead time is the one that theirs announces, not ours.
		if took < p.setup.theirDeadtime-p.setup.keepalive-100*time.Millisecond || took > p.setup.theirDeadtime+time.Second {
			p.t.Errorf("took over after %v, its dead time is %v", took, p.setup.theirDeadtime)
		}
		if s := p.status(); s.Holds != "all" || s.Lease != "unlimited" {
			p.t.Errorf("ours holds %s, lease %s", s.Holds, s.Lease)
		}
		if !p.real.Holds(vip) {
			p.t.Errorf("the killed heartbeat's kernel has lost the address: what did this row test?")
		}
		p.real.Forget(vip)
		p.startReal()
		p.settled("all", "none", 15*time.Second)
	})
	// It held all. An old node takes nothing of it, not even its own (section
	// 11), so ours takes what nobody has, after a while.
	p.row(t, "ours restarts within the dead time", []string{"No one owns"}, func() {
		p.judged()
		p.kill()
		p.start()
		p.wait("theirs has noticed", 5*time.Second, func() bool { return strings.Contains(p.real.Log(0), "Heartbeat restart on node node1") })
		p.settled("all", "none", 10*time.Second)
	})
	p.row(t, "theirs restarts within the dead time", nil, func() {
		p.planned(func() { p.ourCommand("standby") }, "none", "all")
		p.judged()
		p.real.Kill()
		p.real.Forget(vip) // a machine that has booted does not have it
		p.startReal()
		p.settled("local", "local", 15*time.Second)
	})
	p.row(t, "old generations", []string{"attempted replay"}, p.oldGenerations)
	p.row(t, "every packet verifies", nil, func() {
		p.verified("status", "NS_ackmsg", "reqnodes", "repnodes", "starting", "resource", "ask_resources", "hb_takeover")
	})
	// Which the real one tells of at length, for each packet.
	p.row(t, "another key", []string{"authtoken does not match", "authentication failed", "MSG"}, func() {
		p.real.Stop()
		p.real.Authkeys(secret{"sha1", "another-secret"}.authkeys())
		p.startReal()
		p.wait("ours hears and refuses", 10*time.Second, func() bool {
			return strings.Contains(p.systole.log.String(), "bad packet on ucast eth0")
		})
		p.wait("theirs hears and refuses", 10*time.Second, func() bool {
			return strings.Contains(p.real.Log(0), "authentication")
		})
		// The real one, alone after its initdead, serves too.
		p.wait("theirs is alone", 15*time.Second, func() bool { return p.real.Holds(vip) })
		s := p.status()
		if s.Holds != "all" || s.Role != "active" {
			p.t.Errorf("ours holds %s, is %s", s.Holds, s.Role)
		}
		if n := peer(s); n.Status != "dead" || n.Links[0].Up {
			p.t.Errorf("ours sees theirs as %+v", n)
		}
		if got := p.real.Status("nodestatus", ours); got != "dead" {
			p.t.Errorf("theirs sees ours as %q", got)
		}
	})
}

// TestTwoGroupsAutoFailbackOn is the story of a group for each node that goes
// back to it.
func TestTwoGroupsAutoFailbackOn(t *testing.T) {
	t.Parallel()
	p := newPair(t, setup{prefix: "interop-on", keepalive: 100 * time.Millisecond, deadtime: 2 * time.Second,
		theirDeadtime: 2 * time.Second, autoFailback: "on", twoGroups: true})
	p.row(t, "cold start", nil, func() {
		p.coldStart()
		p.settled("local", "local", 15*time.Second)
	})
	p.row(t, "systole standby local", nil, func() {
		p.planned(func() { p.ourCommand("standby", "local") }, "none", "all")
	})
	p.row(t, "systole takeover local", nil, func() {
		p.planned(func() { p.ourCommand("takeover", "local") }, "local", "local")
	})
	p.row(t, "hb_standby local", nil, func() {
		p.planned(func() { p.theirCommand("hb_standby", "local") }, "all", "none")
	})
	p.row(t, "hb_takeover local", nil, func() {
		p.planned(func() { p.theirCommand("hb_takeover", "local") }, "local", "local")
	})
	p.row(t, "systole takeover foreign", nil, func() {
		p.planned(func() { p.ourCommand("takeover", "foreign") }, "all", "none")
	})
	p.row(t, "systole standby foreign", nil, func() {
		p.planned(func() { p.ourCommand("standby", "foreign") }, "local", "local")
	})
	p.row(t, "six hundred messages", nil, p.soak)
	p.row(t, "every packet verifies", nil, func() {
		p.verified("status", "NS_ackmsg", "reqnodes", "repnodes", "starting", "resource", "ask_resources", "hb_takeover")
	})
	p.row(t, "theirs is killed and gets its group back", nil, func() {
		p.real.Kill()
		p.wait("ours takes over", 10*time.Second, func() bool { s := p.status(); return s != nil && s.Holds == "all" })
		p.real.Forget(second)
		p.startReal()
		p.settled("local", "local", 20*time.Second)
	})
	p.row(t, "ours is killed and gets its group back", nil, func() {
		p.kill()
		p.wait("theirs takes over", 10*time.Second, func() bool { return p.real.Holds(vip) })
		p.start()
		p.settled("local", "local", 20*time.Second)
	})
}

// coldStart starts both, watches them join, and then nobody take anything for the ten
// seconds of heartbeat-wire.md section 9.
func (p *pair) coldStart() {
	p.t.Helper()
	p.start()
	p.wait("our daemon answers", 20*time.Second, func() bool { return p.status() != nil })
	p.startReal()
	p.wait("each sees the other active", 10*time.Second, func() bool {
		s := p.status()
		return s != nil && peer(s).Status == "active" &&
			p.real.Status("nodestatus", ours) == "active"
	})
	var first, stable time.Time
	p.wait("one is stable", 15*time.Second, func() bool {
		for _, n := range nodes {
			for _, m := range p.wire(n, "resource") {
				if first.IsZero() || m.at.Before(first) {
					first = m.at
				}
				if m.is("resource", "isstable=1") && (stable.IsZero() || m.at.Before(stable)) {
					stable = m.at
				}
			}
		}
		return !stable.IsZero()
	})
	if waited := stable.Sub(first); waited < 9900*time.Millisecond || waited > 11*time.Second {
		p.t.Errorf("stable %v after the first report, want 10 s", waited)
	}
}

// peer is how ours sees theirs.
func peer(s *control.State) control.NodeState {
	return s.Nodes[slices.IndexFunc(s.Nodes, func(n control.NodeState) bool { return !n.Self })]
}

// judged waits until theirs announces the dead time it is configured with; it
// asks for two seconds more in its first five (heartbeat-wire.md section 7).
func (p *pair) judged() {
	p.t.Helper()
	p.wait("theirs announces its dead time", 10*time.Second, func() bool {
		s := p.status()
		return s != nil && peer(s).Deadtime == p.setup.theirDeadtime
	})
}

// planned does something that moves groups and must never show two owners.
func (p *pair) planned(f func(), weHold, theyHold string) {
	p.t.Helper()
	own := p.owners()
	f()
	p.settled(weHold, theyHold, 15*time.Second)
	o := own.Stop()
	p.t.Logf("owners: %v", o)
	if o.TwoARP != 0 {
		p.t.Errorf("two answer ARP in %d of %d questions, first after %v", o.TwoARP, o.Ticks, o.First)
	}
}

func (p *pair) ourCommand(args ...string) {
	p.t.Helper()
	out, err := p.command(args...)
	if err != nil {
		p.t.Fatalf("systole %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	p.t.Log(out)
}

func (p *pair) theirCommand(tool string, args ...string) {
	p.t.Helper()
	if out, err := p.real.Run(append([]string{filepath.Join(linuxha.Tools, tool)}, args...)...); err != nil {
		p.t.Fatalf("%s: %v\n%s", tool, err, out)
	}
}

// kill is kill -9 of our daemon.
func (p *pair) kill() {
	p.t.Helper()
	p.systole.proc.Kill()
	<-p.systole.proc.Done()
}

// soak lets both send more than the real one's queue of unacknowledged
// messages holds (heartbeat-wire.md section 6.4): row looks for "hist queue".
func (p *pair) soak() {
	const messages = 600
	p.wait("600 messages of each", 90*time.Second, func() bool {
		return p.newest(ours) > messages && p.newest(theirs) > messages
	})
	for _, n := range nodes {
		if last, acked := p.newest(n), p.acked(n); acked+30 < last {
			p.t.Errorf("%s has sent %d messages, %d are acknowledged", n, last, acked)
		}
	}
	if got := p.real.Status("hbstatus"); !strings.Contains(got, "running") {
		p.t.Errorf("cl_status hbstatus: %q", got)
	}
}

// newest is the number of the last message that a node has sent.
func (p *pair) newest(src string) uint64 {
	ms := p.wire(src, "status")
	return ms[len(ms)-1].number("seq")
}

// acked is the last message of a node that the other has acknowledged.
func (p *pair) acked(src string) (last uint64) {
	for _, other := range nodes {
		for _, m := range p.wire(other, "NS_ackmsg") {
			if other != src && m.is("NS_ackmsg", "dest="+src) {
				last = max(last, m.number("ackseq"))
			}
		}
	}
	return last
}

// oldGenerations plays each side a beat that is well signed and of a generation
// long gone, with word of a death. It must be told and change nothing.
func (p *pair) oldGenerations() {
	from := len(p.real.Log(0))
	for src, dest := range map[string]string{ours: theirs, theirs: ours} {
		beats := p.wire(src, "status")
		old := slices.Clone(beats[len(beats)-1].message)
		old = slices.DeleteFunc(old, func(f field) bool { return f.name == "auth" })
		for i := range old {
			switch old[i].name {
			case "hg":
				old[i].value = "1"
			case "st":
				old[i].value = "dead"
			}
		}
		p.inject(dest, encode(old, p.key))
	}
	p.wait("ours tells of a replay", 5*time.Second, func() bool {
		return strings.Contains(p.systole.log.String(), "packet of node node2 has generation 1, older than")
	})
	p.wait("theirs tells of a replay", 5*time.Second, func() bool {
		return strings.Contains(p.real.Log(from), "attempted replay")
	})
	p.settled("local", "local", 5*time.Second)
}

// verified looks at what the test's own decoder made of all packets so far, and
// that each has sent some of each type.
func (p *pair) verified(sent ...string) {
	p.mu.Lock()
	for _, b := range p.bad {
		p.t.Error(b)
	}
	p.mu.Unlock()
	p.unasked()
	for _, n := range nodes {
		types := map[string]int{}
		for _, m := range p.wire(n, "") {
			types[m.get("t")]++
		}
		p.t.Logf("%s sent %v", n, types)
		for _, want := range sent {
			if types[want] == 0 {
				p.t.Errorf("%s has sent no %s: what was verified?", n, want)
			}
		}
	}
}

// unasked: each status of ours says that we are a Systole node; an old one takes
// no notice of it, and is not asked what it cannot answer. Suspicion is for
// nodes that say the same (hb/doc.go).
func (p *pair) unasked() {
	p.t.Helper()
	statuses := p.wire(ours, "status")
	if len(statuses) == 0 {
		p.t.Error("ours has sent no status")
	}
	for _, m := range statuses {
		if m.get("systole") != "1" || m.number("ka") != uint64(p.setup.keepalive.Milliseconds()) {
			p.t.Errorf("ours does not say what it is, or its keepalive: %s", m)
			break
		}
	}
	for _, t := range []string{"NS_probe", "NS_alive"} {
		if asked := p.wire(ours, t); len(asked) != 0 {
			p.t.Errorf("ours has sent %d %s to an old node, such as %s", len(asked), t, asked[0])
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) != 0 {
		p.t.Errorf("ours has asked the machine of an old node %d times, first for %s", len(p.asked), p.asked[0])
	}
}
