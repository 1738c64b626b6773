package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"systole/control/takeover"
)

// Plan is one run: the cluster, and what befalls it. With its Seed it decides
// everything.
type Plan struct {
	Seed      uint64
	Nodes     int // 2 to 16, named a, b, ...; a and b are directors, the others only members
	Media     int // 1 or 2
	Keepalive time.Duration
	Deadtime  time.Duration
	Delay     time.Duration // most that a packet takes, unless it is reordered: then five times as long
	Jumble    float64       // probability of a reordered packet, and half that of a doubled one
	Failback  bool          // auto_failback
	Ends      bool          // an armed lease ends with the daemon (the kernel's exit hook)
	AtMostOne bool          // cluster.partition: who has no majority of all nodes owns nothing
	Hosts     bool          // the machines answer echo requests and refuse packets, so that early deaths are possible
	Steps     []Step
}

// Kind is what happens in a step.
type Kind uint8

// What can happen. For is how long it lasts; then it is over by itself.
const (
	Rest     Kind = iota // wait until all faults are over and the cluster has settled, and then look at it
	Crash                // kill -9 of A's daemon, started again after For
	Die                  // A's host dies, and is back with a new daemon after For
	Stall                // A's daemon is stopped (SIGSTOP)
	Freeze               // A's host is frozen, data plane and all
	Hang                 // A's control loop is stuck, its heartbeat goes on
	Cut                  // no packet of A reaches B
	Part                 // A and all others do not hear each other
	Link                 // no packet of A reaches B on Medium
	Unplug               // A's cable of Medium is pulled: its carrier is lost
	Loss                 // packets are lost with probability P
	Slow                 // packets take up to Delay times P
	Clock                // A's wall clock is wrong by For, until it is set again
	Standby              // A is ordered to hand over Class
	Takeover             // A is ordered to take Class
	Shutdown             // A is stopped in good order, started again For later
	Say                  // A sends messages of no meaning, one each For/10, ten in all
	kinds
)

var kindNames = [kinds]string{"rest", "crash", "die", "stall", "freeze", "hang", "cut", "part", "link", "unplug", "loss", "slow", "clock",
	"standby", "takeover", "shutdown", "say"}

// String is the word for it in a script.
func (k Kind) String() string { return kindNames[k] }

// failure says whether it counts as one.
func (k Kind) failure() bool { return k >= Crash && k <= Clock }

// Step is something that happens Wait after the step before.
type Step struct {
	Wait   time.Duration
	Kind   Kind
	A, B   int // nodes, from 0
	Medium int // from 0
	For    time.Duration
	P      float64
	Class  takeover.Class
}

// oneMedium: other media, if there are any, go on.
func (s Step) oneMedium() bool { return s.Kind == Link || s.Kind == Unplug }

func nodeName(i int) string { return string(rune('a' + i)) }

// mediaNames are those of a cluster with as many media as there can be.
var mediaNames = []string{"eth0", "eth1"}

// String is the step as a line of a script.
func (s Step) String() string {
	words := []string{"+" + s.Wait.String(), s.Kind.String()}
	for _, arg := range arguments[s.Kind] {
		switch arg {
		case 'a':
			words = append(words, nodeName(s.A))
		case 'b':
			words = append(words, nodeName(s.B))
		case 'm':
			words = append(words, mediaNames[s.Medium])
		case 'd':
			words = append(words, s.For.String())
		case 'p':
			words = append(words, strconv.FormatFloat(s.P, 'g', -1, 64))
		case 'c':
			words = append(words, s.Class.String())
		}
	}
	return strings.Join(words, " ")
}

// arguments of each kind in a script: nodes, medium, duration, number, class.
var arguments = [kinds]string{
	Rest: "", Crash: "ad", Die: "ad", Stall: "ad", Freeze: "ad", Hang: "ad", Cut: "abd", Part: "ad", Link: "abmd", Unplug: "amd", Loss: "pd", Slow: "pd",
	Clock: "ad", Standby: "ac", Takeover: "ac", Shutdown: "ad", Say: "ad",
}

// String is the plan as a script, which Parse reads.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed=%d nodes=%d media=%d keepalive=%v deadtime=%v delay=%v jumble=%v failback=%v ends=%v hosts=%v atmostone=%v\n",
		p.Seed, p.Nodes, p.Media, p.Keepalive, p.Deadtime, p.Delay, p.Jumble, p.Failback, p.Ends, p.Hosts, p.AtMostOne)
	for _, s := range p.Steps {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// ErrScript is wrapped by the errors of Parse; the text names the line.
var ErrScript = errors.New("simulation script")

// Parse reads a script: comments (#) and empty lines, one line that describes
// the cluster, then one line a step.
func Parse(text string) (Plan, error) {
	var p Plan
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var err error
		if p.Nodes == 0 {
			err = p.parseHead(line)
		} else {
			var s Step
			s, err = p.parseStep(strings.Fields(line))
			p.Steps = append(p.Steps, s)
		}
		if err != nil {
			return Plan{}, fmt.Errorf("%w: line %d: %q: %w", ErrScript, i+1, line, err)
		}
	}
	if p.Nodes == 0 {
		return Plan{}, fmt.Errorf("%w: it does not describe a cluster: want a line like seed=1 nodes=2", ErrScript)
	}
	return p, nil
}

func (p *Plan) parseHead(line string) (err error) {
	*p = Plan{Seed: 1, Media: 1, Keepalive: 100 * time.Millisecond, Deadtime: 300 * time.Millisecond, Delay: time.Millisecond}
	for _, w := range strings.Fields(line) {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "seed":
			p.Seed, err = strconv.ParseUint(v, 10, 64)
		case "nodes":
			p.Nodes, err = strconv.Atoi(v)
		case "media":
			p.Media, err = strconv.Atoi(v)
		case "keepalive":
			p.Keepalive, err = time.ParseDuration(v)
		case "deadtime":
			p.Deadtime, err = time.ParseDuration(v)
		case "delay":
			p.Delay, err = time.ParseDuration(v)
		case "jumble":
			p.Jumble, err = strconv.ParseFloat(v, 64)
		case "failback":
			p.Failback, err = strconv.ParseBool(v)
		case "ends":
			p.Ends, err = strconv.ParseBool(v)
		case "hosts":
			p.Hosts, err = strconv.ParseBool(v)
		case "atmostone":
			p.AtMostOne, err = strconv.ParseBool(v)
		default:
			err = fmt.Errorf("unknown option %s", k)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case p.Nodes < 2 || p.Nodes > 16:
		return fmt.Errorf("%d nodes: want 2 to 16", p.Nodes)
	case p.Media < 1 || p.Media > 2:
		return fmt.Errorf("%d media: want 1 or 2", p.Media)
	case p.Keepalive <= 0 || p.Deadtime <= 2*p.Keepalive || p.Delay < minDelay || p.Delay > p.Keepalive/5:
		return fmt.Errorf("want deadtime > 2 x keepalive, and %v <= delay <= keepalive/5", minDelay)
	}
	return nil
}

func (p *Plan) parseStep(words []string) (s Step, err error) {
	if len(words) < 2 || !strings.HasPrefix(words[0], "+") {
		return s, errors.New("want +WAIT KIND and its arguments")
	}
	if s.Wait, err = time.ParseDuration(words[0][1:]); err != nil {
		return s, err
	}
	for s.Kind = 0; s.Kind < kinds && kindNames[s.Kind] != words[1]; s.Kind++ {
	}
	if s.Kind == kinds {
		return s, fmt.Errorf("want one of %s", strings.Join(kindNames[:], " "))
	}
	args := words[2:]
	if want := len(arguments[s.Kind]); len(args) != want {
		return s, fmt.Errorf("%d arguments, want %d", len(args), want)
	}
	for i, arg := range arguments[s.Kind] {
		switch arg {
		case 'a':
			s.A, err = p.node(args[i])
		case 'b':
			s.B, err = p.node(args[i])
		case 'm':
			s.Medium, err = p.medium(args[i])
		case 'd':
			s.For, err = time.ParseDuration(args[i])
		case 'p':
			s.P, err = strconv.ParseFloat(args[i], 64)
		case 'c':
			s.Class, err = takeover.ParseClass(args[i])
		}
		if err != nil {
			return s, err
		}
	}
	if s.For < 0 && s.Kind != Clock || s.Wait < 0 || s.P < 0 {
		return s, errors.New("a negative number")
	}
	if director := s.Kind == Hang || s.Kind >= Standby && s.Kind <= Shutdown; director && s.A > 1 {
		return s, fmt.Errorf("%s is no director: want a or b", nodeName(s.A))
	}
	return s, nil
}

func (p *Plan) medium(name string) (int, error) {
	if i := slices.Index(mediaNames[:p.Media], name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%q is no medium of this cluster: want one of %s", name, strings.Join(mediaNames[:p.Media], " "))
}

func (p *Plan) node(name string) (int, error) {
	if len(name) == 1 {
		if i := int(name[0]) - 'a'; i >= 0 && i < p.Nodes {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is no node of this cluster: want a to %s", name, nodeName(p.Nodes-1))
}
