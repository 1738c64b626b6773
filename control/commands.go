package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"systole/control/config"
	"systole/control/takeover"
	"systole/dataplane"
)

// ErrStopped is what a command gets from a director that has ended.
var ErrStopped = errors.New("the director has stopped")

// do runs f in the loop and waits for its answer.
func (d *Director) do(ctx context.Context, f func() error) error {
	answer := make(chan error, 1)
	select {
	case d.inputs <- func() { answer <- f() }:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return ErrStopped
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return ErrStopped
	}
}

// Standby hands the groups of a class to the peer. The class is in heartbeat's
// words: "all" (also ""), "local", "foreign". It returns when the hand-over has
// begun, or the reason why it cannot.
func (d *Director) Standby(ctx context.Context, class string) error {
	return d.command(ctx, "standby", class, func(c takeover.Class) takeover.Input { return takeover.Standby{Class: c} })
}

// Takeover asks the peer for the groups of a class.
func (d *Director) Takeover(ctx context.Context, class string) error {
	return d.command(ctx, "takeover", class, func(c takeover.Class) takeover.Input { return takeover.Takeover{Class: c} })
}

func (d *Director) command(ctx context.Context, name, class string, in func(takeover.Class) takeover.Input) error {
	if class == "" {
		class = "all"
	}
	c, err := takeover.ParseClass(class)
	if err != nil || c == takeover.None {
		return fmt.Errorf("%s: %q is not a class of groups: all, local or foreign", name, class)
	}
	return d.do(ctx, func() error {
		d.event("operator", slog.LevelInfo, "%s %s", name, class)
		return d.step(in(c))
	})
}

// Quiesce takes a real server out of rotation (on) or puts it back. service is
// a service's name ("192.168.145.101:80/tcp") or "" for all of the server's. It
// returns when the planes follow, or with the reason why they do not.
func (d *Director) Quiesce(ctx context.Context, server, service string, on bool) error {
	addr, err := netip.ParseAddr(server)
	if err != nil {
		return fmt.Errorf("server %q: write its address, as in the config", server)
	}
	return d.do(ctx, func() error {
		if d.cfg.Witness() {
			return fmt.Errorf("quiesce: %w", d.noDirector())
		}
		keys := serversNamed(d.cfg, addr, service)
		if len(keys) == 0 {
			return fmt.Errorf("no real server %s in %s; `systole status` lists them", server, orAll(service))
		}
		for _, k := range keys {
			if on {
				d.facts.Quiesced[k] = true
			} else {
				delete(d.facts.Quiesced, k)
			}
		}
		verb := "resume"
		if on {
			verb = "quiesce"
		}
		d.event("operator", slog.LevelInfo, "%s %s in %s", verb, server, orAll(service))
		return d.follow(fmt.Sprintf("%s %s is noted", verb, server))
	})
}

// follow has the planes follow what an operator has changed, before he is told:
// his next packet finds it.
func (d *Director) follow(changed string) error {
	d.apply()
	for i := range d.planes {
		if text := d.planes[i].Error; text != "" {
			return fmt.Errorf("%s, and not in force: %s", changed, text)
		}
	}
	return nil
}

func orAll(service string) string {
	if service == "" {
		return "any service"
	}
	return service
}

// serversNamed lists the servers with an address in one service, or in all.
func serversNamed(c *config.Config, addr netip.Addr, service string) []dataplane.ServerKey {
	var out []dataplane.ServerKey
	for i := range c.Services {
		key := serviceKey(&c.Services[i])
		if service != "" && service != key.String() {
			continue
		}
		for _, s := range c.Services[i].Servers {
			if s.Addr == addr {
				out = append(out, dataplane.ServerKey{Service: key, Server: addr})
			}
		}
	}
	return out
}
