package interop

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"systole/test/need"
)

// TestTwentyPercentLoss loses one packet in five each way, while the group goes
// to and fro eight times, four times by each one's word.
func TestTwentyPercentLoss(t *testing.T) {
	t.Parallel()
	const percent = 20
	p := newPair(t, setup{prefix: "interop-loss", keepalive: 500 * time.Millisecond, deadtime: 10 * time.Second,
		theirDeadtime: 10 * time.Second, initdead: 10 * time.Second})
	p.row(t, "cold start", nil, func() {
		p.coldStart()
		p.settled("local", "local", 15*time.Second)
		for _, n := range nodes {
			p.lose(n, percent)
		}
	})
	moves := []struct {
		name, weHold, theyHold string
		do                     func()
	}{
		{"systole standby", "none", "all", func() { p.ourCommand("standby") }},
		{"hb_standby", "all", "none", func() { p.theirCommand("hb_standby", "all") }},
		{"hb_takeover", "none", "all", func() { p.theirCommand("hb_takeover", "all") }},
		{"systole takeover", "all", "none", func() { p.ourCommand("takeover") }},
	}
	for i := range 8 {
		m := moves[i%len(moves)]
		p.row(t, fmt.Sprintf("%s, hand-over %d", m.name, i+1), nil, func() {
			began := time.Now()
			m.do()
			p.settled(m.weHold, m.theyHold, 30*time.Second)
			p.t.Logf("settled after %v", time.Since(began).Round(time.Millisecond))
			p.heard()
		})
	}
	p.row(t, "nothing is lost for good", nil, func() {
		for _, n := range nodes {
			lost, came := p.lost(n)
			p.t.Logf("on the way to %s %d of %d packets were lost", n, lost, came)
			if 100*lost < percent/2*came || lost < 10 {
				p.t.Errorf("%d of %d packets to %s were lost: what was tested?", lost, came, n)
			}
			p.lose(n, 0)
		}
		p.acknowledged() // also what was sent while there was loss
		asked := map[string]int{}
		for _, n := range nodes {
			asked[n] = len(p.wire(n, "NS_rexmit"))
			if asked[n] == 0 {
				p.t.Errorf("%s has asked for nothing again", n)
			}
			if nak := p.wire(n, "NS_nak_rexmit"); len(nak) != 0 {
				p.t.Errorf("%s could not send again: %s", n, nak[0])
			}
		}
		p.t.Logf("asked for again: %v messages", asked)
		for _, log := range []string{p.systole.log.String(), p.real.Log(0)} {
			for line := range strings.Lines(log) {
				if strings.Contains(line, "is dead") || strings.Contains(line, "-> dead") {
					t.Errorf("at a loss of %d %% with a dead time of 20 beats: %s", percent, line)
				}
			}
		}
		p.settled("all", "none", 5*time.Second)
	})
}

// heard waits until each has what the other has said so far. Nobody orders
// messages for the real one: a report of before, sent again in the midst of the
// next hand-over, it takes for the latest word.
//
// Ours acknowledges when nothing is missing (heartbeat-wire.md section 6.4). The
// real one does not, if just that message was sent again or came with a gap; but
// it says in its log when it misses something and when it has it.
func (p *pair) heard() {
	p.t.Helper()
	p.wait("all messages have arrived", 20*time.Second, func() bool {
		last := map[string]uint64{}
		for _, n := range nodes {
			for _, t := range []string{"resource", "ask_resources", "hb_takeover"} {
				for _, m := range p.wire(n, t) {
					last[n] = max(last[n], m.number("seq"))
				}
			}
		}
		log := p.real.Log(0)
		complete := strings.LastIndex(log, "lost packet(s) for [node1]") <= strings.LastIndex(log, "No pkts missing from node1")
		const beats = 3 // a gap shows with the next message
		return p.acked(theirs) >= last[theirs] && complete && p.newest(ours) >= last[ours]+beats
	})
}

// acknowledged waits until each has acknowledged what the other has sent so far,
// and so everything.
func (p *pair) acknowledged() {
	p.t.Helper()
	sent := map[string]uint64{}
	for _, n := range nodes {
		sent[n] = p.newest(n)
	}
	p.wait(fmt.Sprintf("messages %v are acknowledged", sent), 20*time.Second, func() bool {
		return p.acked(ours) >= sent[ours] && p.acked(theirs) >= sent[theirs]
	})
}

// lose has a node drop so many percent of the heartbeat packets that come in.
func (p *pair) lose(node string, percent int) {
	p.t.Helper()
	p.nft(node, fmt.Sprintf(`table inet lab
delete table inet lab
table inet lab {
	chain loss {
		type filter hook input priority filter
		udp dport 694 counter
		udp dport 694 numgen random mod 100 < %d counter drop
	}
}`, percent))
}

// lost is what a node has dropped of what came, since lose.
func (p *pair) lost(node string) (lost, came int) {
	p.t.Helper()
	counters := regexp.MustCompile(`counter packets (\d+)`).FindAllStringSubmatch(p.nft(node, "list table inet lab"), -1)
	if len(counters) != 2 {
		p.t.Fatalf("%s: counters %v", node, counters)
	}
	came, _ = strconv.Atoi(counters[0][1])
	lost, _ = strconv.Atoi(counters[1][1])
	return lost, came
}

func (p *pair) nft(node, script string) string {
	p.t.Helper()
	h := p.lab.Host(node)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := h.Command(ctx, need.Program(p.t, "nft"), "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := h.Start(cmd)
	p.must(err)
	if err := proc.Wait(); err != nil {
		p.t.Fatalf("%s: nft: %v\n%s", node, err, out.String())
	}
	return out.String()
}

// TestSerialSoak is six hundred messages of each over a null-modem cable alone.
func TestSerialSoak(t *testing.T) {
	t.Parallel()
	p := newPair(t, setup{prefix: "interop-soak", keepalive: 100 * time.Millisecond, deadtime: 2 * time.Second,
		theirDeadtime: 2 * time.Second, media: []string{"serial"}})
	p.row(t, "theirs joins", nil, func() {
		begins["theirs joins"].do(p)
		p.settled("all", "none", 15*time.Second)
	})
	p.row(t, "six hundred messages", nil, p.soak)
	p.row(t, "systole standby", nil, func() { moves["systole standby"].do(p) })
	p.row(t, "hb_standby", nil, func() { moves["hb_standby"].do(p) })
	p.row(t, "every packet verifies", nil, func() { p.verified("status", "NS_ackmsg", "resource", "ask_resources") })
}
