package sim

import (
	"math/rand/v2"
	"time"

	"systole/control/takeover"
)

// Generate makes the plan of a seed: some bursts of failures, between which the
// cluster comes to rest. Every third burst is a single failure, for which the
// exact bounds hold.
func Generate(seed uint64) Plan {
	r := rand.New(rand.NewPCG(seed, 2))
	p := Plan{Seed: seed, Nodes: 2, Media: 1, Failback: r.IntN(2) == 0, Ends: r.IntN(2) == 0}
	bursts, most := 12, 12
	switch n := r.IntN(100); {
	case n < 2:
		p.Nodes, bursts, most = 16, 3, 30
	case n < 5:
		p.Nodes, bursts = 4+r.IntN(5), 6
	case n < 20:
		p.Nodes = 3
	}
	if r.IntN(4) == 0 {
		p.Media = 2
	}
	times := [][2]time.Duration{
		{100, 300}, {100, 300}, {100, 300}, {100, 500}, {50, 300}, {1000, 3000}, {20, 60},
	}[r.IntN(7)]
	p.Keepalive, p.Deadtime = times[0]*time.Millisecond, times[1]*time.Millisecond
	p.Delay = minDelay + time.Duration(r.Int64N(int64(p.Keepalive/50)))
	if r.IntN(3) == 0 {
		p.Jumble = 0.2 * r.Float64()
	}
	for range bursts {
		n := 1
		if r.IntN(3) > 0 {
			n = 2 + r.IntN(most-1)
		}
		for range n {
			p.Steps = append(p.Steps, p.step(r))
		}
		p.Steps = append(p.Steps, Step{Kind: Rest})
	}
	p.Hosts = r.IntN(3) > 0
	r = rand.New(rand.NewPCG(seed, 4))
	p.oneByOne(r)
	if p.Keepalive == 20*time.Millisecond && r.IntN(2) == 0 { // the least there may be
		p.Keepalive, p.Deadtime = p.Keepalive/2, p.Deadtime/2
		p.Delay = min(p.Delay, minDelay+p.Keepalive/50)
	}
	p.AtMostOne = r.IntN(4) == 0
	return p
}

// oneByOne makes of some cuts such of one medium, of which there may be another,
// and of some partitions a cable that is pulled.
func (p *Plan) oneByOne(r *rand.Rand) {
	for i := range p.Steps {
		s := &p.Steps[i]
		switch {
		case s.Kind == Part && r.IntN(2) == 0:
			s.Kind, s.Medium = Unplug, r.IntN(p.Media)
		case s.Kind == Cut && p.Media > 1 && r.IntN(2) == 0:
			s.Kind, s.Medium = Link, r.IntN(p.Media)
		}
	}
}

// likely is how often each kind comes, in parts of their sum.
var likely = [kinds]int{
	Crash: 14, Die: 8, Stall: 14, Freeze: 6, Hang: 6, Cut: 12, Part: 10, Loss: 8, Slow: 6, Clock: 3,
	Standby: 4, Takeover: 4, Shutdown: 3, Say: 2,
}

func (p *Plan) step(r *rand.Rand) Step {
	total := 0
	for _, n := range likely {
		total += n
	}
	s := Step{Class: takeover.Class(1 + r.IntN(3)), P: 0.1 + 0.8*r.Float64()}
	pick := r.IntN(total)
	for pick >= likely[s.Kind] {
		pick -= likely[s.Kind]
		s.Kind++
	}
	nodes := p.Nodes
	if s.Kind == Hang || s.Kind >= Standby && s.Kind <= Shutdown || r.IntN(4) > 0 {
		nodes = 2 // most of it happens to the directors
	}
	s.A = r.IntN(nodes)
	s.B = (s.A + 1 + r.IntN(nodes-1)) % nodes
	// Short ones are more frequent than long ones, and round numbers, at which
	// things meet, do occur.
	short := func(most time.Duration) time.Duration {
		d := time.Duration(r.Float64() * r.Float64() * float64(most))
		if r.IntN(10) == 0 {
			d = d.Round(p.Keepalive)
		}
		return d.Round(time.Microsecond)
	}
	s.Wait, s.For = short(2*p.Deadtime), short(4*p.Deadtime)
	switch s.Kind {
	case Slow:
		s.P = 1 + 40*r.Float64()
	case Clock:
		s.For = time.Duration(r.Int64N(int64(2*24*time.Hour)) - int64(24*time.Hour)).Round(time.Second)
	}
	return s
}
