package interop

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"systole/test/linuxha"
)

// TestLegacy is the story of auto_failback legacy, with a group for each node:
// each asks for its own when it comes, and nobody hands over anything. The real
// one says nothing of what it holds, so addresses are what is looked at.
func TestLegacy(t *testing.T) {
	t.Parallel()
	p := newPair(t, setup{prefix: "interop-legacy", keepalive: 200 * time.Millisecond, deadtime: 2 * time.Second,
		theirDeadtime: 2 * time.Second, autoFailback: "legacy", twoGroups: true})
	p.row(t, "cold start", nil, func() {
		p.start()
		p.wait("our daemon answers", 20*time.Second, func() bool { return p.status() != nil })
		p.startReal()
		p.own("local", "local")
		if !p.status().Takeover.Legacy {
			p.t.Error("ours does not speak legacy")
		}
	})
	p.row(t, "theirs is killed and asks for its group", nil, func() {
		p.real.Kill()
		p.ourAll()
		p.real.Forget(second)
		p.startReal()
		p.own("local", "local")
	})
	p.row(t, "ours is killed and asks for its group", nil, func() {
		p.kill()
		p.wait("theirs takes over", 15*time.Second, func() bool { return p.real.Holds(vip) })
		p.start()
		p.own("local", "local")
	})
	p.row(t, "theirs stops", nil, func() {
		p.real.Stop()
		p.ourAll()
		p.startReal()
		p.own("local", "local")
	})
	p.row(t, "ours stops", nil, func() {
		p.must(p.systole.proc.Signal(syscall.SIGTERM))
		p.wait("theirs takes over", atOnce, func() bool { return p.real.Holds(vip) })
		if err := p.systole.proc.Wait(); err != nil {
			p.t.Errorf("our daemon ended with %v", err)
		}
		p.start()
		p.own("local", "local")
	})
	p.row(t, "systole standby is refused", nil, func() {
		if out, err := p.command("standby"); err == nil || !strings.Contains(out, "legacy") {
			p.t.Errorf("%v\n%s", err, out)
		}
		p.own("local", "local")
	})
	p.row(t, "hb_standby is refused", nil, func() {
		p.real.Run(linuxha.Tools+"/hb_standby", "all") // and says nothing of it
		from := p.newest(theirs)
		p.wait("theirs goes on", 10*time.Second, func() bool { return p.newest(theirs) > from+10 })
		p.own("local", "local")
	})
	p.row(t, "every packet verifies", nil, func() {
		p.verified("status", "NS_ackmsg", "ip-request", "ip-request-resp")
		// As it happens; some of them while ours held its group.
		p.t.Logf("theirs took its group unasked %d times, ours let go of it %d times", len(slices.DeleteFunc(p.wire(theirs, "ip-request-resp"),
			func(m packet) bool { return !m.is("ip-request-resp", "dest="+theirs) })), strings.Count(p.systole.log.String(), "takes its groups"))
	})
}

// own waits until each serves what is said, both are active and the links up.
func (p *pair) own(weHold, theyHold string) {
	p.t.Helper()
	var seen string
	defer func() {
		if p.t.Failed() {
			p.t.Log("last seen: " + seen)
		}
	}()
	p.wait("ours serves "+weHold+", theirs "+theyHold, 20*time.Second, func() bool {
		s := p.status()
		if s == nil {
			seen = "our daemon does not answer"
			return false
		}
		where := p.where(s)
		seen = s.Takeover.State + " " + s.Holds + " " + where
		if s.Takeover.State != "stable" || s.Holds != weHold || where != p.should(weHold, theyHold) {
			return false
		}
		unwell := p.unwell(s)
		seen += " " + unwell
		return unwell == ""
	})
}

func (p *pair) ourAll() {
	p.t.Helper()
	p.wait("ours takes over", 15*time.Second, func() bool { s := p.status(); return s != nil && s.Holds == "all" })
}
