package takeover

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

var update = flag.Bool("update", false, "rewrite the scripts in testdata with what comes out")

// TestScripts plays the scripts of testdata: each is a test, its golden output
// and documentation. Lines that begin with "> " are commands, "#" comments;
// everything else is what came out. "single" plays one machine, whose peer is
// the script; "pair" plays two, on a network that takes 1 ms. Operations
// succeed at once, unless "fail", "jam" or "nofence" says otherwise.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := playScript(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("%s came out differently (-update rewrites it):\n%s", file, firstDifference(string(text), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d:\nwant %s\ngot  %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines wanted, %d came", len(w), len(g))
}

type letter struct {
	at  time.Time
	to  string
	msg wire.Message
}

type player struct {
	t        *testing.T
	out      strings.Builder
	now      time.Time
	begin    time.Time
	names    []string
	machines map[string]*Machine
	mail     []letter
	cut      bool
	old      bool // "systole" is not heard
	fails    map[string]int
	jams     map[string]int // releases that will fail
	nofence  bool
}

func playScript(t *testing.T, text string) string {
	p := &player{t: t, begin: time.Unix(1, 0), now: time.Unix(1, 0), machines: map[string]*Machine{}, fails: map[string]int{}, jams: map[string]int{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if command, ok := strings.CutPrefix(line, "> "); ok {
			p.out.WriteString(line + "\n")
			p.command(strings.Fields(command))
		} else if line == "" || line[0] == '#' {
			p.out.WriteString(line + "\n")
		}
	}
	return p.out.String()
}

func (p *player) printf(name, format string, args ...any) {
	fmt.Fprintf(&p.out, "%8.3f %s %s\n", p.now.Sub(p.begin).Seconds(), name, fmt.Sprintf(format, args...))
}

func (p *player) command(w []string) {
	arg := func(i int) string {
		if i >= len(w) {
			p.t.Fatalf("command %q is too short", strings.Join(w, " "))
		}
		return w[i]
	}
	class := func(i int) Class {
		c, err := ParseClass(arg(i))
		if err != nil {
			p.t.Fatal(err)
		}
		return c
	}
	switch w[0] {
	case "single", "pair":
		auto := !slices.Contains(w, "auto_failback=off")
		p.names = []string{"node1"}
		if w[0] == "pair" {
			p.names = append(p.names, "node2")
		}
		for i, n := range []string{"node1", "node2"} {
			peer := []string{"node2", "node1"}[i]
			p.machines[n] = New(Config{Node: n, Peer: peer, AutoFailback: auto, Deadtime: 3 * time.Second,
				Legacy: slices.Contains(w, "auto_failback=legacy"), Keys: []string{"vip-of-" + n}, PeerKeys: []string{"vip-of-" + peer},
				AtMostOne: slices.Contains(w, "at-most-one"), AwaitFlows: slices.Contains(w, "await-flows")})
		}
		p.nofence = slices.Contains(w, "nofence")
		p.old = slices.Contains(w, "old")
		return
	case "wait":
		d, err := time.ParseDuration(arg(1))
		if err != nil {
			p.t.Fatal(err)
		}
		p.wait(d)
		return
	case "stall": // time passes, nothing runs
		d, err := time.ParseDuration(arg(1))
		if err != nil {
			p.t.Fatal(err)
		}
		p.now = p.now.Add(d)
		return
	case "cut":
		p.cut, p.mail = true, nil
		return
	case "plug":
		p.cut = false
		return
	}
	names := []string{w[0]}
	if w[0] == "both" {
		names = p.names
	}
	for _, n := range names {
		switch arg(1) {
		case "new": // a new incarnation
			p.machines[n] = New(p.machines[n].cfg)
		case "fail":
			p.fails[n]++
		case "jam":
			count, err := strconv.Atoi(arg(2))
			if err != nil {
				p.t.Fatal(err)
			}
			p.jams[n] = count
		case "quorum":
			p.step(n, Quorum{arg(2) == "yes"})
		case "pings":
			count, err := strconv.Atoi(arg(2))
			if err != nil {
				p.t.Fatal(err)
			}
			p.step(n, Pings{count})
		case "flows":
			p.step(n, Flows{arg(2) == "there"})
		case "kept":
			p.step(n, Kept{class(2)})
		case "heard":
			p.step(n, Heard{})
		case "joined":
			p.step(n, Joined{})
		case "peer":
			p.step(n, Peer{Alive: arg(2) != "dead", Returned: arg(2) == "returned", Restarted: arg(2) == "restarted", Why: "silent for 3s",
				Ended: slices.Contains(w, "ended"), Joining: slices.Contains(w, "joining")})
		case "recv":
			p.step(n, Message{Msg: parseMessage(p.t, w[2:])})
		case "repeated":
			p.step(n, Repeated{Msg: parseMessage(p.t, w[2:])})
		case "standby":
			p.step(n, Standby{class(2)})
		case "takeover":
			p.step(n, Takeover{class(2)})
		case "lapsed":
			p.step(n, LeaseLapsed{})
		case "shutdown":
			p.step(n, Shutdown{})
		case "auto_failback":
			p.machines[n].SetAutoFailback(arg(2) == "on")
			p.step(n, Tick{})
		case "view":
			v := p.machines[n].View()
			p.printf(n, "is %s (%s): held %s active %s draining %s failed %s, peer %s stable=%v, epoch %d, lease %s, %s",
				v.State, v.Word(), v.Held, v.Active, v.Draining, v.Failed, v.OtherHeld, v.OtherStable, v.Epoch, v.Lease, v.Standby)
		default:
			p.t.Fatalf("unknown command %q", strings.Join(w, " "))
		}
	}
	p.wait(0)
}

func parseMessage(t *testing.T, fields []string) wire.Message {
	m := wire.New(fields[0])
	for _, f := range fields[1:] {
		name, value, ok := strings.Cut(f, "=")
		if !ok {
			t.Fatalf("field %q without value", f)
		}
		m.Set(name, value)
	}
	return m
}

// step does what comes out, and what comes out of that. One failing Acquire is
// used up by each "fail".
func (p *player) step(n string, in Input) {
	for _, out := range p.machines[n].Step(p.now, in) {
		p.printf(n, "%s", p.show(out))
		switch o := out.(type) {
		case Send:
			if len(p.names) > 1 && !p.cut && !(p.old && o.Msg.Type() == typeSystole) {
				p.mail = append(p.mail, letter{p.now.Add(time.Millisecond), map[string]string{"node1": "node2", "node2": "node1"}[n], o.Msg})
			}
		case Acquire:
			var err error
			if p.fails[n] > 0 {
				p.fails[n]--
				err = errors.New("no such device")
			}
			defer p.step(n, Done{o.Op, err})
		case Release:
			var err error
			if p.jams[n] > 0 {
				p.jams[n]--
				err = errors.New("device busy")
			}
			defer p.step(n, Done{o.Op, err})
		case Fence:
			var err error
			if p.nofence {
				err = errors.New("no data plane keeps a lease")
			}
			defer p.step(n, Done{o.Op, err})
		}
	}
}

func (p *player) show(out Output) string {
	switch o := out.(type) {
	case Send:
		return "send " + strings.TrimPrefix(o.Msg.String(), "t=")
	case Acquire:
		return fmt.Sprintf("ACQUIRE %s planned=%v: %s", o.Class, o.Planned, o.Why)
	case Release:
		return fmt.Sprintf("RELEASE %s drain=%v: %s", o.Class, o.Drain, o.Why)
	case Fence:
		return "FENCE: " + o.Why
	case Withdraw:
		return "WITHDRAW " + o.Class.String()
	case Announce:
		return "ANNOUNCE " + o.Class.String()
	case Lease:
		return "LEASE " + o.Mode.String()
	case Refused:
		return "REFUSED " + o.Err.Error()
	case Report:
		return fmt.Sprintf("%s: %s", strings.ToLower(o.Level.String()), o.Text)
	case Stopped:
		return "STOPPED"
	}
	return fmt.Sprintf("%T", out)
}

// wait lets time pass: mail arrives, deadlines come. With 0 it only waits
// until the mail has come to rest.
func (p *player) wait(d time.Duration) {
	end := p.now.Add(d)
	for range 10000 {
		next, name := time.Time{}, ""
		if len(p.mail) > 0 {
			next = p.mail[0].at
		}
		for _, n := range p.names {
			if at := p.machines[n].Deadline(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next, name = at, n
			}
		}
		if next.IsZero() || next.After(end) && (d > 0 || len(p.mail) == 0) {
			if end.After(p.now) {
				p.now = end
			}
			return
		}
		if p.now.Before(next) {
			p.now = next
		}
		if name != "" {
			p.step(name, Tick{})
			continue
		}
		l := p.mail[0]
		p.mail = p.mail[1:]
		p.step(l.to, Message{Msg: l.msg})
	}
	p.t.Fatal("it never comes to rest")
}
