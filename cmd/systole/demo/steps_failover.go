package demo

import (
	"context"
	"time"
)

func (d *demo) stepStandby(ctx context.Context, s *Step) error {
	s.expect("node2 serves; no request lost, no connection broken")
	x, took, err := d.fail(ctx, d.standby(), d.node1)
	if err != nil {
		return err
	}
	s.handover(x, took)
	return nil
}

func (d *demo) stepTakeover(ctx context.Context, s *Step) error {
	s.expect("node1 serves; no request lost, no connection broken")
	x, took, err := d.fail(ctx, d.takeover(), d.node2)
	if err != nil {
		return err
	}
	s.handover(x, took)
	return nil
}

func (d *demo) stepKill(ctx context.Context, s *Step) error {
	s.expect("node2 takes over, gap at most %s, never two owners", short(gapLimit))
	x, took, err := d.fail(ctx, killed, d.node1)
	if err != nil {
		return err
	}
	s.outage(x, took)
	return nil
}

func (d *demo) stepRestart(ctx context.Context, s *Step) error {
	s.expect("on: node1 comes back and takes the group again, no request lost")
	s.expect("off: node1 comes back as the standby, node2 stays active")

	w, err := d.watching(ctx, true)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err = d.node1.start(); err == nil {
		_, err = d.until(ctx, 15*time.Second, "node1 takes the group again", d.alone(d.node1))
	}
	took := time.Since(begin)
	if err == nil {
		_, err = d.until(ctx, 10*time.Second, "the failback is complete", d.settled(d.node1))
	}
	x := w.stop()
	if err != nil {
		return err
	}
	s.figure("failback", took)
	s.figure("requests", x.web.Requests)
	s.figure("requests_lost", x.web.Failed)
	s.saw("on: node1 active again %s after its start; %d requests, %d lost", short(took), x.web.Requests, x.web.Failed)
	s.require(x.web.Failed == 0, "%d of %d requests lost at the failback, the first: %v", x.web.Failed, x.web.Requests, x.web.First)
	s.require(x.kept.Broken == 0, "%d of %d open connections broken at the failback, the first: %v", x.kept.Broken, x.kept.Connections, x.kept.First)

	if err := d.reconfigure(ctx, func(c *settings) { c.AutoFailback = false }); err != nil {
		return err
	}
	d.node1.kill()
	if _, err := d.until(ctx, 10*time.Second, "node2 takes over", owns(d.node2)); err != nil {
		return err
	}
	if err := d.node1.start(); err != nil {
		return err
	}
	if _, err := d.until(ctx, 15*time.Second, "node1 joins as the standby", d.settled(d.node2)); err != nil {
		return err
	}
	observe(ctx, 2*deadtime) // a failback that should not come would come now
	if _, err := d.until(ctx, time.Second, "node2 stays active", d.settled(d.node2)); err != nil {
		return err
	}
	s.saw("off: node1 joined, node2 is still active")

	// As it was, for the steps to come.
	if err := d.node1.api.Takeover(ctx, "all"); err != nil {
		return err
	}
	if _, err := d.until(ctx, 10*time.Second, "node1 takes the group again", d.settled(d.node1)); err != nil {
		return err
	}
	return d.reconfigure(ctx, func(c *settings) { c.AutoFailback = true })
}

func (d *demo) stepCut(ctx context.Context, s *Step) error {
	s.expect("node2 takes over, gap at most %s", short(gapLimit))
	s.expect("after the repair one owner, without a restart")
	x, took, err := d.fail(ctx, cut, d.node1)
	if err != nil {
		return err
	}
	s.outage(x, took)

	w, err := d.watching(ctx, false)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err = d.node1.host.Plug(); err == nil {
		_, err = d.until(ctx, 15*time.Second, "one owner, node1, after the repair", d.alone(d.node1))
	}
	took = time.Since(begin)
	if err == nil {
		_, err = d.until(ctx, 10*time.Second, "the repair is complete", d.settled(d.node1))
	}
	y := w.stop()
	if err != nil {
		return err
	}
	s.figure("heal", took)
	s.figure("heal_gap", y.gap)
	s.figure("heal_two_owner_ticks", y.owners.TwoARP)
	s.saw("repaired: node1 has the group again after %s, gap %s; both answered ARP in %d of %d ticks",
		short(took), short(y.gap), y.owners.TwoARP, y.owners.Ticks)
	s.require(y.gap <= gapLimit+y.stall, "gap after the repair %s, want at most %s", short(y.gap), short(gapLimit))
	return nil
}
