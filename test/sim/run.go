package sim

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Stats is what happened in one run or in many.
type Stats struct {
	Runs         uint64
	Life         time.Duration     // virtual, of clusters
	Failures     uint64            // crashes, stalls, cuts, heals, bursts of loss, ...
	Kinds        map[string]uint64 // of failures
	Steps        uint64            // packets that arrived, deadlines and timers
	Packets      uint64            // sent
	Dropped      uint64            // times receivers
	Delivered    uint64            // control messages, times receivers
	LostMessages uint64            // reported lost
	Deaths       uint64            // declared by somebody
	FalseDeaths  uint64            // of directors that served: cuts, losses
	EarlyDeaths  uint64            // declared before the dead time
	Prompt       uint64            // failures of a cluster at rest after which a takeover was due before the dead time
	Mistaken     uint64            // of these: of nodes that ran, while packets were lost or slow
	TwoOwners    uint64            // times that a class had two, all of them excused
	Rests        uint64            // times that the cluster settled
	Settling     time.Duration     // the longest time it took
}

// Add sums up.
func (s *Stats) Add(o Stats) {
	if s.Kinds == nil {
		s.Kinds = map[string]uint64{}
	}
	s.Runs += o.Runs
	s.Life += o.Life
	s.Failures += o.Failures
	for k, n := range o.Kinds {
		s.Kinds[k] += n
	}
	s.Steps += o.Steps
	s.Packets += o.Packets
	s.Dropped += o.Dropped
	s.Delivered += o.Delivered
	s.LostMessages += o.LostMessages
	s.Deaths += o.Deaths
	s.FalseDeaths += o.FalseDeaths
	s.EarlyDeaths += o.EarlyDeaths
	s.Prompt += o.Prompt
	s.Mistaken += o.Mistaken
	s.TwoOwners += o.TwoOwners
	s.Rests += o.Rests
	s.Settling = max(s.Settling, o.Settling)
}

// String is several lines for a test's log.
func (s Stats) String() string {
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(s.Kinds)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, s.Kinds[k]))
	}
	return fmt.Sprintf(`%d runs, %.1f cluster-hours, %d events
%d failures: %s
%d packets, %d of their copies lost; %d control messages delivered, %d packets reported lost for good
%d deaths declared, %d of directors that served, %d before the dead time (%d of these cut off or unheard, not gone); a takeover before it was due %d times; two owners %d times, each with a reason
%d times at rest, at the latest %v after the last failure`,
		s.Runs, s.Life.Hours(), s.Steps, s.Failures, strings.Join(kinds, ", "),
		s.Packets, s.Dropped, s.Delivered, s.LostMessages, s.Deaths, s.FalseDeaths, s.EarlyDeaths, s.Mistaken, s.Prompt, s.TwoOwners, s.Rests, s.Settling.Round(time.Millisecond))
}

// Run runs a plan. broken says which invariant did not hold, and when; it is
// empty if all did. With a trace it writes everything down that happens.
func Run(p Plan, trace io.Writer) (s Stats, broken string) {
	c := newCluster(p, trace)
	for _, n := range c.members {
		c.start(n)
		c.run(time.Duration(c.rnd.Int64N(int64(c.initdead() / time.Duration(p.Nodes)))))
	}
	c.rest()
	for _, step := range p.Steps {
		if c.run(step.Wait); c.failed != "" {
			break
		}
		if step.Kind == Rest {
			c.rest()
		} else {
			c.do(step)
		}
	}
	c.rest()
	s = c.stats
	s.Runs, s.Life, s.Steps, s.Packets, s.Dropped = 1, c.now(), c.net.Steps, c.net.Sent, c.net.Lost
	return s, c.failed
}

// Shrink looks for a plan with fewer steps that fails, too, in at most so many
// runs.
func Shrink(p Plan, runs int) Plan {
	for size := max(1, len(p.Steps)/2); size > 0; size /= 2 {
		for from := 0; from < len(p.Steps) && runs > 0; runs-- {
			less := p
			less.Steps = slices.Delete(slices.Clone(p.Steps), from, min(len(p.Steps), from+size))
			if _, broken := Run(less, nil); broken != "" {
				p = less
			} else {
				from += size
			}
		}
	}
	return p
}
