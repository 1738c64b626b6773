package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"systole/control/config"
	"systole/control/takeover"
	"systole/dataplane"
	"systole/hb/wire"
)

// Reload reads the config and the authkeys again and makes them the running
// ones. On any error, also one that only concerns a key that cannot change
// live, the old config and the old keys stay in force, whole.
func (d *Director) Reload(ctx context.Context) error {
	next, err := d.Load()
	var keys wire.Keys
	if err == nil {
		keys, err = d.Keys()
	}
	return d.do(ctx, func() error {
		d.conf.LastReload = d.Now()
		if err == nil {
			err = d.adopt(next, keys)
		}
		if err != nil {
			d.conf.ReloadOK, d.conf.Error = false, err.Error()
			d.event("config", slog.LevelError, "reload refused, the old config stays: %v", err)
			return err
		}
		d.conf.ReloadOK, d.conf.Error, d.conf.Loaded = true, "", d.conf.LastReload
		d.event("config", slog.LevelInfo, "config %s loaded", d.conf.File)
		return nil
	})
}

// adopt makes next the running config.
func (d *Director) adopt(next *config.Config, keys wire.Keys) error {
	next = next.Own()
	if blocked := config.LiveChange(d.cfg, next); len(blocked) > 0 {
		return fmt.Errorf("%s: cannot change while the director runs: %s (restart it, the peer first)", next.File, strings.Join(blocked, ", "))
	}
	if err := d.declare(next); err != nil {
		return fmt.Errorf("%s: %w", next.File, err)
	}
	if err := d.Cluster.SetKeys(keys); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", next.Cluster.Authkeys, err), d.declare(d.cfg))
	}
	if d.Sync != nil {
		if err := d.Sync.SetKeys(keys); err != nil {
			return fmt.Errorf("%s: %w", next.Cluster.Authkeys, err)
		}
	}
	old := d.cfg
	d.cfg = next
	// Addresses that left go; those that came to a group we own are added.
	for _, g := range old.Groups {
		for _, v := range g.VIPs {
			if role := d.facts.Roles[g.Name]; role == dataplane.Active && !owns(next, g.Name, v) {
				if err := d.Addresses.Del(vipAddr(v)); err != nil {
					d.event("config", slog.LevelError, "%v", err)
				}
			}
		}
	}
	d.inherit()
	d.Checks.Set(checkTargets(next))
	d.Neighbours.Set(neighbourTargets(next))
	d.apply()
	for i := range next.Groups {
		g := &next.Groups[i]
		for _, v := range g.VIPs {
			if d.facts.Roles[g.Name] != dataplane.Active || owns(old, g.Name, v) {
				continue
			}
			if err := d.Addresses.Add(vipAddr(v)); err != nil {
				d.event("config", slog.LevelError, "group %s: %v", g.Name, err)
				continue
			}
			d.Addresses.Announce(vipAddr(v))
		}
	}
	d.takeover.SetAutoFailback(next.Cluster.AutoFailback)
	d.takeover.SetLegacy(next.Cluster.Legacy)
	d.takeover.SetKeys(groupKeys(next))
	return d.step(takeover.Tick{}) // it may have something to do now
}

// inherit carries what is known over to the new config, and forgets what it no
// longer has.
func (d *Director) inherit() {
	view := d.takeover.View()
	held := view.Held | view.Kept
	roles := make(map[string]dataplane.Role)
	for i := range d.cfg.Groups {
		g := &d.cfg.Groups[i]
		if d.classOf(g)&held != 0 {
			roles[g.Name] = dataplane.Active
		} else if d.facts.Roles[g.Name] == dataplane.Draining {
			roles[g.Name] = dataplane.Draining
		}
	}
	d.facts.Roles = roles
	known := make(map[dataplane.ServerKey]bool)
	for id := range checkTargets(d.cfg) {
		if k, ok := serverKey(d.cfg, id); ok {
			known[k] = true
		}
	}
	for k := range d.facts.Health {
		if !known[k] {
			delete(d.facts.Health, k)
			delete(d.health, k)
			delete(d.facts.Quiesced, k)
		}
	}
}

func owns(c *config.Config, group string, v config.VIP) bool {
	for _, g := range c.Groups {
		for _, o := range g.VIPs {
			if g.Name == group && o == v {
				return true
			}
		}
	}
	return false
}
