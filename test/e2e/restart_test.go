package e2e

import (
	"os"
	"syscall"
	"testing"
	"time"

	"systole/test/netlab/probe"
)

// TestKeptEndsWithThePeersFirstBeat restarts the daemon of a director that was
// alone when its peer is back: before it, with it, and after it. What the
// predecessor served is kept until the peer is heard, and there are never two
// owners, but where the peer had taken over while no daemon ran here: then until
// it is heard.
func TestKeptEndsWithThePeersFirstBeat(t *testing.T) {
	p, _ := tutorialPair(t)
	kill := func(name string) {
		t.Helper()
		p.daemons[name].proc.Kill()
		<-p.daemons[name].proc.Done()
	}
	own := p.ownership()
	for _, order := range [][]string{{"node1", "node2"}, {"node2", "node1"}} {
		kill("node2")
		p.wait("node1 is alone", 10*time.Second, func() bool {
			s := p.status("node1")
			return s != nil && s.Role == "active" && s.Lease == "unlimited"
		})
		kill("node1")
		for _, n := range order {
			p.start(n)
		}
		p.wait("one of them serves, and both are stable", 10*time.Second, func() bool {
			a, b := p.status("node1"), p.status("node2")
			return a != nil && b != nil && a.Takeover.State == "stable" && b.Takeover.State == "stable" && (a.Role == "active") != (b.Role == "active")
		})
		if s := p.status("node1"); s.Role != "active" {
			t.Errorf("node1 is %s, and preferred", s.Role)
		}
	}
	time.Sleep(100 * time.Millisecond) // of rest
	o := own.Stop()
	t.Logf("owners: %v", o)
	if o.Two != 0 || len(o.Strangers) != 0 {
		t.Errorf("two owners in %d of %d ticks, first after %v; strangers %v", o.Two, o.Ticks, o.First, o.Strangers)
	}
}

// A restart with a living peer is a hand-over like any stop, and leaves nothing.
func TestRestartBesideALivingPeerHandsOver(t *testing.T) {
	p, _ := tutorialPair(t)
	load := probe.StartHTTP(p.client, p.request(), 2)
	time.Sleep(200 * time.Millisecond) // of load before it
	d := p.daemons["node1"]
	p.must(d.proc.Signal(syscall.SIGUSR1))
	select {
	case <-d.proc.Done():
	case <-time.After(15 * time.Second):
		t.Fatal("SIGUSR1 did not end the daemon within 15 s")
	}
	if err := d.proc.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if _, err := os.Stat(d.pin); err == nil {
		t.Errorf("pins left in %s", d.pin)
	}
	p.start("node1")
	p.active("node2")
	tally := load.Stop()
	t.Logf("%d requests, %d lost", tally.Requests, tally.Failed)
	if tally.Failed != 0 || tally.Requests < 100 {
		t.Errorf("%d of %d requests lost, the first: %v", tally.Failed, tally.Requests, tally.First)
	}
}
