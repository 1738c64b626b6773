package fallback

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"systole/dataplane"
)

// porter is a Carry that notes what it is asked for, and whether XDP can be
// attached again.
type porter struct {
	mu    sync.Mutex
	asked []string
	back  bool
	err   error
	hold  chan bool // not nil: a carry waits for it, or its end
}

func (c *porter) carry(ctx context.Context, from, to dataplane.Plane) (int, error) {
	c.mu.Lock()
	c.asked = append(c.asked, from.Info().Name+">"+to.Info().Name)
	hold, err := c.hold, c.err
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return 1, err
}

func (c *porter) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func withPorter(t *testing.T) (*pair, *porter) {
	p, c := newPair(t), &porter{}
	p.carry = c.carry
	p.back = func(dataplane.Plane) bool { c.mu.Lock(); defer c.mu.Unlock(); return c.back }
	p.apply()
	return p, c
}

// settle tends the planes until nothing is under way.
func (p *pair) settle() {
	p.t.Helper()
	for range 4 {
		if p.Tend() {
			p.apply()
		}
		synctest.Wait()
		p.at = p.at.Add(time.Second)
	}
}

func (c *porter) want(t *testing.T, what ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.asked, what) {
		t.Errorf("carried %q, want %q", c.asked, what)
	}
	c.asked = nil
}

// XDP is lost: IPVS gets its connections. It is attached again only when it has
// those of IPVS, and then gets what has come meanwhile.
func TestCarried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := withPorter(t)
		p.settle()
		c.want(t)
		for range 3 {
			p.xdp.detach(true)
			p.settle()
			c.want(t, "xdp>ipvs")
			p.xdp.FailApply(nil) // it would be attached if it were told to
			c.set(func() { c.back, c.hold = true, make(chan bool) })
			before := len(p.xdp.Applied())
			p.settle()
			c.want(t, "ipvs>xdp")
			if n := len(p.xdp.Applied()); n != before {
				t.Errorf("attached before it had the connections: %d snapshots more", n-before)
			}
			c.set(func() { close(c.hold); c.hold = nil })
			synctest.Wait()
			if !p.Tend() {
				t.Error("nothing is to be applied, and XDP has the connections")
			}
			p.xdp.detach(false) // Apply attaches it
			p.apply()
			c.set(func() { c.back = false })
			p.settle()
			c.want(t, "ipvs>xdp")
		}
	})
}

// XDP is lost again before anybody has looked.
func TestLostAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := withPorter(t)
		p.xdp.detach(true)
		p.settle()
		p.xdp.detach(false)
		p.apply()
		p.xdp.detach(true)
		p.settle()
		c.want(t, "xdp>ipvs", "xdp>ipvs")
	})
}

// By command XDP goes on with what it has, and IPVS gets a copy; and back.
func TestCarriedByCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := withPorter(t)
		for _, step := range []struct {
			choice Choice
			want   []string
		}{{IPVS, []string{"xdp>ipvs"}}, {IPVS, nil}, {XDP, []string{"ipvs>xdp"}}, {Auto, nil}} {
			p.choose(step.choice)
			p.settle()
			c.want(t, step.want...)
		}
	})
}

// A carry that fails holds nothing up; one that cannot bring XDP the connections
// is tried again, not every second.
func TestCarryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := withPorter(t)
		c.set(func() { c.err = errors.New("no daemon") })
		p.xdp.detach(true)
		p.settle()
		c.set(func() { c.back = true })
		before := len(p.xdp.Applied())
		p.settle()
		c.want(t, "xdp>ipvs", "ipvs>xdp", "xdp>ipvs")
		if p.xdp.detach(false); len(p.xdp.Applied()) != before {
			t.Error("it cannot have been attached yet")
		}
		if p.Tend(); p.Report().Members[0].Mode == dataplane.Detached {
			t.Error("still detached")
		}
	})
}

// A carry that fails is tried again, not at once and not for ever; what is asked
// for meanwhile comes in its place.
func TestCarryTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := withPorter(t)
		c.set(func() { c.err = errors.New("a message was lost") })
		p.choose(IPVS)
		p.settle()
		c.want(t, "xdp>ipvs")
		c.set(func() { c.err = nil })
		p.at = p.at.Add(lookPeriod)
		p.settle()
		c.want(t, "xdp>ipvs")
		p.at = p.at.Add(time.Minute)
		p.settle()
		c.want(t)

		c.set(func() { c.err = errors.New("a message was lost") })
		p.choose(XDP)
		for range 2 * carryTries {
			p.settle()
			p.at = p.at.Add(lookPeriod)
		}
		c.want(t, slices.Repeat([]string{"ipvs>xdp"}, carryTries)...)

		p.choose(IPVS)
		p.settle()
		c.want(t, "xdp>ipvs")
		p.choose(XDP)
		p.settle()
		p.at = p.at.Add(lookPeriod)
		p.settle()
		c.want(t, "ipvs>xdp", "ipvs>xdp")
	})
}

// Watch does not wait for the director.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := withPorter(t)
		go p.Watch(10 * time.Millisecond)
		time.Sleep(time.Second)
		synctest.Wait()
		c.want(t)
		p.xdp.detach(true)
		time.Sleep(11 * time.Millisecond)
		synctest.Wait()
		c.want(t, "xdp>ipvs")
		if err := p.Close(); err != nil { // and Watch ends, or the test does not
			t.Error(err)
		}
		time.Sleep(10 * time.Millisecond)
	})
}

// Close ends a carry, and leaves nothing of it behind.
func TestCloseEndsCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := withPorter(t)
		c.set(func() { c.hold = make(chan bool) })
		p.xdp.detach(true)
		p.Tend()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// No carry is longer than its time.
func TestCarryTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := withPorter(t)
		c.set(func() { c.hold = make(chan bool) })
		p.xdp.detach(true)
		p.Tend()
		time.Sleep(carryTime - time.Millisecond)
		if p.Tend(); p.runs == nil {
			t.Error("it ended too early")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if p.Tend(); p.runs != nil {
			t.Error("it goes on")
		}
	})
}
