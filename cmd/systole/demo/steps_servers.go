package demo

import (
	"context"
	"fmt"
	"time"

	"systole/control"
	"systole/test/netlab/probe"
)

// webService is the name of the web service in a status.
var webService = webRequestAt(80).String() + "/tcp"

// onBoth is the condition that the web service looks the same on both
// directors: cond is given each one's view of it.
func (d *demo) onBoth(cond func(*control.ServiceState) string) func(pair) string {
	return func(p pair) string {
		for _, n := range d.nodes() {
			if p[n] == nil {
				return n.name + " does not answer"
			}
			missing := "no such service"
			for i := range p[n].Services {
				if svc := &p[n].Services[i]; svc.Service == webService {
					missing = cond(svc)
				}
			}
			if missing != "" {
				return n.name + ": " + missing
			}
		}
		return ""
	}
}

// serverIs is the condition that a server is in the table with that weight,
// or not in it for a weight below zero.
func serverIs(addr string, weight int) func(*control.ServiceState) string {
	return func(svc *control.ServiceState) string {
		for _, r := range svc.Servers {
			if r.Address != addr {
				continue
			}
			switch {
			case weight < 0 && r.InTable:
				return addr + " is still in the table"
			case weight >= 0 && (!r.InTable || int(r.Effective) != weight):
				return fmt.Sprintf("%s: in the table %s, weight %d", addr, yesNo(r.InTable), r.Effective)
			}
			return ""
		}
		return addr + " is not configured"
	}
}

func (d *demo) stepWebStopped(ctx context.Context, s *Step) error {
	server1 := d.node1.values.Server1
	s.expect("quiescent: false: server1 leaves the table; quiescent: true: its weight is 0")
	s.expect("all requests go to web2")
	for _, quiescent := range []bool{false, true} {
		if err := d.reconfigure(ctx, func(c *settings) { c.Quiescent = quiescent }); err != nil {
			return err
		}
		weight, words := -1, "left the table"
		if quiescent {
			weight, words = 0, "has weight 0"
		}
		begin := time.Now()
		d.web1.Stop()
		if _, err := d.until(ctx, 5*time.Second, "server1 "+words, d.onBoth(serverIs(server1, weight))); err != nil {
			return err
		}
		took := time.Since(begin)
		tally, err := d.ask(ctx, 20)
		if err != nil {
			return err
		}
		s.figure(fmt.Sprintf("quiescent_%t", quiescent), took)
		s.saw("quiescent: %t: server1 %s after %s; then %d x %q of %d", quiescent, words, short(took), tally.Answers[answer2], answer2, tally.Requests)
		s.require(tally.Answers[answer2] == tally.Requests, "%d requests failed, %d went to server1", tally.Failed, tally.Answers[answer1])

		if err := d.web1.Start(); err != nil {
			return err
		}
		if _, err := d.until(ctx, 5*time.Second, "server1 is back", d.onBoth(serverIs(server1, 1))); err != nil {
			return err
		}
	}
	return d.reconfigure(ctx, func(c *settings) { c.Quiescent = false })
}

// ask makes n requests, one after the other.
func (d *demo) ask(ctx context.Context, n int) (probe.Tally, error) {
	var t probe.Tally
	t.Answers = make(map[string]int)
	for range n {
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
		body, err := probe.Get(d.client, webRequest())
		t.Requests++
		if err != nil {
			t.Failed++
			t.First = err
			continue
		}
		t.Answers[body]++
	}
	return t, nil
}

func (d *demo) stepAllStopped(ctx context.Context, s *Step) error {
	s.expect("the web service's table is empty, the state says so, the rest goes on")
	d.web1.Stop()
	d.web2.Stop()
	got, err := d.until(ctx, 5*time.Second, "the table is empty", d.onBoth(func(svc *control.ServiceState) string {
		if svc.State != "empty" {
			return "the service is " + svc.State
		}
		for _, r := range svc.Servers {
			if r.InTable {
				return r.Address + " is still in the table"
			}
		}
		return ""
	}))
	if err != nil {
		return err
	}
	st := got[d.node1]
	s.saw("%s", tableOf(st))
	s.saw("node1 is %s: %s", st.Health, first(st.Problems))
	s.require(st.Health == "critical", "node1 has an empty service and calls itself %s", st.Health)
	begin := time.Now()
	_, err = probe.Get(d.client, webRequest())
	s.saw("a request is answered with: %v (after %s)", err, short(time.Since(begin)))
	s.require(err != nil, "a request was served by nobody")
	c, err := d.nameServer(ctx, "udp")
	if err != nil {
		return err
	}
	defer c.Close()
	if a, err := lookUp(c); err != nil || a != vip.String() {
		s.require(false, "DNS no longer works: %s, %v", a, err)
	}
	return nil
}

func first(s []string) string {
	if len(s) == 0 {
		return "no problem named"
	}
	return s[0]
}

func (d *demo) stepAllBack(ctx context.Context, s *Step) error {
	for _, w := range []interface{ Start() error }{d.web1, d.web2} {
		if err := w.Start(); err != nil {
			return err
		}
	}
	begin := time.Now()
	if _, err := d.until(ctx, 5*time.Second, "both servers are back", d.settled(d.node1)); err != nil {
		return err
	}
	s.figure("back", time.Since(begin))
	return d.inTurn(ctx, s, 100)
}
