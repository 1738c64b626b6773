package failover

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"systole/test/netlab"
)

var soak = flag.Duration("soak", 15*time.Second, "how long each soak of this package takes, by the `duration`")

// TestLossIsNoDeath loses a quarter of all packets between the directors, each
// way, at three beats to a dead time. The real heartbeat takes its peer for dead
// within a minute of this.
func TestLossIsNoDeath(t *testing.T) {
	l := newLab(t, "failover-loss")
	s := newSystole(l, timing{time.Second, 3 * time.Second}, "")
	for i := range l.nodes {
		s.start(i)
	}
	l.whole(s)
	for i, h := range l.nodes {
		l.lose(h, l.nodes[1-i], 25)
	}
	for _, bad := range l.deaths(s) {
		t.Error(bad)
	}
}

// TestBusyMachineIsNoDeath keeps all cores of the machine busy at a beat each
// 10 ms and a dead time of 30 ms. Where the machine below a virtual one takes a
// CPU for the two beats between them, and says so, who ran there is dead by any
// rule: what comes of that is told, and is no failure.
func TestBusyMachineIsNoDeath(t *testing.T) {
	l := newLab(t, "failover-busy")
	tm := timing{10 * time.Millisecond, 30 * time.Millisecond}
	s := newSystole(l, tm, realtime)
	for i := range l.nodes {
		s.start(i)
	}
	l.whole(s)
	for range runtime.NumCPU() {
		l.burn()
	}
	c := l.canary(10 * time.Millisecond)
	before := [2]usage{l.usage(s.proc[0]), l.usage(s.proc[1])}
	begin := time.Now()
	all := l.deaths(s)
	took := time.Since(begin)
	t.Logf("the machine itself: %s", c.stop())
	mine := 0
	for _, bad := range all {
		// The owner changes because of something that is in the list, too.
		if at, ok := logged(bad); ok && c.excuses(at, tm.deadtime-tm.keepalive) || !ok && mine == 0 && len(all) > 1 {
			t.Logf("the machine's: %s", bad)
			continue
		}
		mine++
		t.Error(bad)
	}
	t.Logf("%d of %d not the machine's", mine, len(all))
	for i := range s.nodes {
		now := l.usage(s.proc[i])
		t.Logf("%s: %.1f %% of a core, %d MiB resident", s.nodes[i].Name,
			100*(now.cpu-before[i].cpu).Seconds()/took.Seconds(), now.resident>>20)
	}
}

// deaths watches the pair for the time of a soak: nobody may be declared dead,
// and the owner stays. It returns what went wrong.
func (l *lab) deaths(s *systole) (all []string) {
	l.Helper()
	if l.stuck > 0 {
		l.Fatal("the pair did not find together at the start")
	}
	owner := s.owner()
	from := [2]int{len(s.log(0)), len(s.log(1))}
	begin := time.Now()
	for time.Since(begin) < *soak && !l.Failed() {
		time.Sleep(min(time.Second, *soak))
		if time.Since(begin)%time.Minute < time.Second {
			l.Logf("%v of %v", time.Since(begin).Round(time.Second), *soak)
		}
	}
	for i := range s.nodes {
		for line := range strings.Lines(s.log(i)[from[i]:]) {
			if strings.Contains(line, "-> dead") || strings.Contains(line, "acquired") || strings.Contains(line, "stalled") {
				all = append(all, s.nodes[i].Name+": "+line)
			}
		}
	}
	if now := s.owner(); now != owner {
		all = append(all, fmt.Sprintf("the owner was %d, now it is %d", owner, now))
	}
	l.Logf("%d false deaths, stalls and failovers in %v", len(all), time.Since(begin).Round(time.Second))
	return all
}

// logged is when a line of a director's log was written.
func logged(line string) (time.Time, bool) {
	_, rest, _ := strings.Cut(line, "time=")
	word, _, _ := strings.Cut(rest, " ")
	at, err := time.Parse(time.RFC3339, word)
	return at, err == nil
}

// lose drops a share of what host h receives from another, in percent.
func (l *lab) lose(h, from *netlab.Host, percent int) {
	l.Helper()
	rules := fmt.Sprintf(`table ip loss {
  chain input {
    type filter hook input priority 0;
    ip saddr %s numgen random mod 100 < %d drop
  }
}
`, from.Addr.Addr(), percent)
	l.must(os.WriteFile(l.Dir()+"/"+h.Name+".nft", []byte(rules), 0o600))
	cmd := h.Command(context.Background(), "nft", "-f", l.Dir()+"/"+h.Name+".nft")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := h.Start(cmd)
	l.must(err)
	if err := proc.Wait(); err != nil {
		l.Fatalf("nft: %v\n%s", err, out.String())
	}
}

// burn keeps a core busy until the test ends.
func (l *lab) burn() {
	l.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	l.must(cmd.Start())
	l.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
}

// tick is the unit of times in /proc: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// usage is what a process has used.
type usage struct {
	cpu      time.Duration
	resident int // bytes
}

func (l *lab) usage(p *netlab.Process) usage {
	l.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	l.must(err)
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:])) // from field 3, proc(5)
	number := func(field int) int {
		n, err := strconv.Atoi(f[field-3])
		l.must(err)
		return n
	}
	return usage{time.Duration(number(14)+number(15)) * tick, number(24) * os.Getpagesize()}
}
