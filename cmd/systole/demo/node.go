package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/test/netlab"
	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

// pollEvery is how often a director is asked for its status while something
// is waited for.
const pollEvery = 20 * time.Millisecond

// node is a director: its host, its files, and its daemon while that runs.
type node struct {
	name    string
	host    *netlab.Host
	binary  string
	values  configValues
	config  string
	logPath string
	log     *os.File
	api     *api.Client
	proc    *netlab.Process
}

// newNode prepares a director's host and files.
func (d *demo) newNode(h *netlab.Host) (*node, error) {
	if err := h.NativeXDP(); err != nil {
		return nil, err
	}
	dir := d.lab.Dir()
	bpffs, err := d.lab.MountBPF(h.Name + ".bpf")
	if err != nil {
		return nil, err
	}
	n := &node{
		name: h.Name, host: h, binary: d.o.Binary,
		config:  filepath.Join(dir, h.Name+".yaml"),
		logPath: filepath.Join(dir, h.Name+".log"),
		values: configValues{
			Node: h.Name, VIP: vip.String(), Name: siteName, CheckPath: standin.CheckPath,
			Authkeys: filepath.Join(dir, "authkeys"),
			StateDir: filepath.Join(dir, h.Name+".state"),
			Pin:      filepath.Join(bpffs, "systole"),
			Socket:   filepath.Join(dir, h.Name+".sock"),
			Mode:     d.o.Mode,
		},
	}
	v := &n.values
	for name, at := range map[string]*string{"node1": &v.Node1, "node2": &v.Node2, "server1": &v.Server1, "server2": &v.Server2} {
		*at = d.lab.Host(name).Addr.Addr().String()
	}
	n.api = api.NewClient(v.Socket)
	n.log, err = os.OpenFile(n.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return n, err
}

// writeConfigs writes both config files from the settings.
func (d *demo) writeConfigs() error {
	for _, n := range d.nodes() {
		n.values.settings = d.settings
		if err := writeConfig(n.config, n.values); err != nil {
			return err
		}
	}
	return nil
}

// reconfigure changes the settings on both directors, live.
func (d *demo) reconfigure(ctx context.Context, change func(*settings)) error {
	change(&d.settings)
	if err := d.writeConfigs(); err != nil {
		return err
	}
	for _, n := range d.nodes() {
		if err := n.api.Reload(ctx); err != nil {
			return fmt.Errorf("reload on %s: %w", n.name, err)
		}
	}
	return nil
}

// start runs the daemon in the director's namespace.
func (n *node) start() error {
	// The context is not the demo's: a daemon ends when it is killed, or with
	// the lab, so that a failure can still be looked into.
	cmd := n.host.Command(context.Background(), n.binary, "run", "-f", n.config, "--node", n.name)
	cmd.Stdout, cmd.Stderr = n.log, n.log
	var err error
	n.proc, err = n.host.Start(cmd)
	return err
}

// kill is kill -9, and returns when the process is gone.
func (n *node) kill() time.Time {
	at := time.Now()
	n.proc.Kill()
	_ = n.proc.Wait() // "signal: killed"
	n.proc = nil
	return at
}

func (n *node) closeLog() {
	if n.log != nil {
		n.log.Close()
	}
}

// tail returns the last lines of the log.
func (n *node) tail(lines int) []byte {
	b, err := os.ReadFile(n.logPath)
	if err != nil {
		return fmt.Appendln(nil, err)
	}
	at := len(b)
	for range lines + 1 {
		if at = bytes.LastIndexByte(b[:at], '\n'); at < 0 {
			return b
		}
	}
	return b[at+1:]
}

// alive fails if a daemon that should run has ended.
func (d *demo) alive() error {
	for _, n := range d.nodes() {
		if n.proc == nil {
			continue
		}
		select {
		case <-n.proc.Done():
			return fmt.Errorf("%w: the daemon of %s ended: %v", errAborted, n.name, n.proc.Wait())
		default:
		}
	}
	return nil
}

// pair is the status of both directors at about the same time; nil for one
// that does not answer.
type pair map[*node]*control.State

// until waits for a condition of both directors' status. cond says what is
// still missing, "" when nothing is.
func (d *demo) until(ctx context.Context, limit time.Duration, what string, cond func(pair) string) (pair, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	missing := "no status yet"
	for {
		got := make(pair)
		for _, n := range d.nodes() {
			if n.proc == nil {
				continue
			}
			if s, err := n.api.Status(ctx); err == nil {
				got[n] = s
			} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
				break
			}
		}
		if ctx.Err() == nil {
			if missing = cond(got); missing == "" {
				return got, nil
			}
		}
		if err := d.alive(); err != nil {
			return nil, err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("%w within %s: %s; still: %s", errAborted, short(limit), what, missing)
		}
	}
}

// owns is the condition that n is active, whatever the other is about.
func owns(n *node) func(pair) string {
	return func(p pair) string {
		switch s := p[n]; {
		case s == nil:
			return n.name + " does not answer"
		case s.Role != "active":
			return n.name + " is " + s.Role
		case !present(s):
			return n.name + " has not got the address"
		}
		return ""
	}
}

// alone is the condition that n is active and its peer is not.
func (d *demo) alone(n *node) func(pair) string {
	return func(p pair) string {
		if missing := owns(n)(p); missing != "" {
			return missing
		}
		peer := d.other(n)
		switch s := p[peer]; {
		case s == nil:
			return peer.name + " does not answer"
		case s.Role == "active" || present(s):
			return peer.name + " has not let go"
		}
		return ""
	}
}

// settled is the condition that all is well with n as the owner; with any
// owner if n is nil.
func (d *demo) settled(n *node) func(pair) string {
	return func(p pair) string {
		var active *node
		for _, x := range d.nodes() {
			s := p[x]
			switch {
			case s == nil:
				return x.name + " does not answer"
			case s.Takeover.Standby != "" && s.Takeover.Standby != "idle":
				return x.name + " is in a hand-over: " + s.Takeover.Standby
			case !s.Takeover.PeerStable:
				return x.name + " does not see its peer settled"
			}
			for _, o := range s.Nodes {
				if o.Status != "active" {
					return fmt.Sprintf("%s sees %s %s", x.name, o.Name, o.Status)
				}
			}
			if s.Role == "active" {
				if active != nil {
					return "both are active"
				}
				active = x
			}
			if present(s) != (s.Role == "active") {
				return fmt.Sprintf("%s is %s, address present: %t", x.name, s.Role, present(s))
			}
		}
		if active == nil {
			return "nobody is active"
		}
		if n != nil && active != n {
			return active.name + " is active"
		}
		for _, x := range d.nodes() {
			for _, g := range p[x].Groups {
				if g.Owner != active.name {
					return fmt.Sprintf("%s takes %q for the owner of %s", x.name, g.Owner, g.Name)
				}
				// One that drains still forwards: two probes would see two.
				if g.Role != p[x].Role {
					return fmt.Sprintf("%s is %s for group %s", x.name, g.Role, g.Name)
				}
			}
		}
		return d.healthy(p)
	}
}

// healthy is the condition that every real server is in use.
func (d *demo) healthy(p pair) string {
	for _, x := range d.nodes() {
		if s := p[x]; s.Health != "ok" {
			return fmt.Sprintf("%s is %s: %v", x.name, s.Health, s.Problems)
		}
	}
	return ""
}

func present(s *control.State) bool {
	for _, g := range s.Groups {
		for _, v := range g.VIPs {
			if !v.Present {
				return false
			}
		}
	}
	return len(s.Groups) > 0
}

// observe lets probes go on after the event, long enough to see what would
// happen late.
func observe(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (d *demo) startUDP() (*probe.UDP, error) {
	return probe.StartUDP(probe.UDPConfig{Host: d.client, Target: webRequestAt(53), Name: siteName})
}

func (d *demo) startOwnership() (*probe.Ownership, error) {
	return probe.StartOwnership(probe.OwnershipConfig{
		Host: d.client, VIP: vip, Port: 53, Name: siteName,
		Directors: []probe.Director{{Name: d.node1.name, MAC: d.node1.host.MAC}, {Name: d.node2.name, MAC: d.node2.host.MAC}},
	})
}
