package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"systole/control"
	"systole/control/api"
	"systole/control/broker"
	"systole/control/config"
	"systole/control/health"
	"systole/control/neighbour"
	"systole/control/vip"
	"systole/dataplane/flowsync"
	"systole/hb"
	"systole/hb/driver"
	"systole/hb/identity"
	"systole/hb/media"
	_ "systole/hb/media/bcast"
	_ "systole/hb/media/mcast"
	_ "systole/hb/media/ping"
	_ "systole/hb/media/serial"
	_ "systole/hb/media/ucast"
	"systole/hb/wire"
)

type runCmd struct {
	File  string `short:"f" help:"Config file." default:"/etc/systole/systole.yaml" placeholder:"FILE"`
	Node  string `help:"This node's name; default: node in the config, else the host name." placeholder:"NAME"`
	Debug bool   `help:"Log more."`
}

func (c runCmd) Run(ctx context.Context) error {
	level := slog.LevelInfo
	if c.Debug {
		level = slog.LevelDebug
	}
	out := newLogWriter(os.Stderr)
	defer out.Close()
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	cfg, err := config.Load(c.File, c.Node)
	if err != nil {
		return err
	}
	d := daemon{cfg: cfg, log: log.With("node", cfg.Node)}
	d.vanish = func() { out.Close(); os.Exit(0) }
	d.load = func() (*config.Config, error) { return config.Load(c.File, c.Node) }
	return d.run(ctx)
}

// daemon is the director's parts, wired. It decides nothing.
type daemon struct {
	cfg  *config.Config
	load func() (*config.Config, error)
	log  *slog.Logger
	// vanish ends the process and leaves data plane and addresses as they are.
	vanish func()

	planes    planes
	lease     *control.Lease
	heartbeat *driver.Driver
	programs  *broker.Broker
	addresses *vip.Manager
	checks    *health.Monitor
	followed  *neighbour.Watcher
	director  *control.Director
	flows     *flowsync.Syncer // nil: none are carried
}

// run starts everything in the order that never leaves a half-made director
// visible, and ends it in the reverse one. ctx cancelled asks for a hand-over
// and a clean stop; a second signal skips the hand-over.
func (d *daemon) run(ctx context.Context) (err error) {
	socket, err := api.Listen(d.cfg.Control.Socket)
	if err != nil {
		return err // and nothing was touched: another director may be running
	}
	defer socket.Close()

	if d.cfg.Cluster.Realtime {
		if err := goRealtime(d.log); err != nil {
			return err
		}
	}
	d.addresses = vip.New(d.log, 3*d.cfg.Cluster.Keepalive)
	defer d.addresses.Close()
	d.planes, err = openPlanes(d.cfg, d.log)
	if err := errors.Join(err, d.clean()); err != nil {
		return err // what a predecessor's program does with an address that stays is its lease's affair
	}
	defer func() { err = errors.Join(err, d.leave()) }()

	d.lease = control.NewLease(d.cfg.Cluster.Deadtime, d.planes.renew)
	if err := d.makeHeartbeat(); err != nil {
		return err
	}
	d.programs = broker.New(d.heartbeat)
	d.makeDirector()
	return d.serve(ctx, socket)
}

// clean removes the virtual addresses that an earlier daemon left after a crash,
// before the first beat: the peer counts on it (takeover: "restarted and holds
// nothing"). Those for which its data plane still forwards because it was alone
// stay, and are ours to look after.
func (d *daemon) clean() error {
	kept := control.Kept(d.cfg.Own(), d.planes.list())
	left := slices.DeleteFunc(configured(d.cfg.Own()), func(a vip.Addr) bool { return slices.Contains(kept, a) })
	errs := []error{d.removeAddresses(left, "left behind by an earlier daemon")}
	for _, a := range kept {
		there, err := d.addresses.Present(a)
		if err == nil && there {
			err = d.addresses.Add(a)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// leave is the way out, however it came: no address stays where no plane
// forwards for it. The addresses are those that were added, which reloads may
// have made others than the configuration had at the start.
func (d *daemon) leave() error {
	return errors.Join(d.removeAddresses(d.addresses.Added(), "still here at the end"), d.planes.close())
}

// configured are all virtual addresses of a configuration.
func configured(cfg *config.Config) []vip.Addr {
	var out []vip.Addr
	for _, g := range cfg.Groups {
		for _, v := range g.VIPs {
			out = append(out, vip.Addr{IP: v.Addr, PrefixLen: v.PrefixLen, Interface: v.Interface})
		}
	}
	return out
}

// removeAddresses takes those down that are on this machine, all it can.
func (d *daemon) removeAddresses(addrs []vip.Addr, why string) error {
	var errs []error
	for _, a := range addrs {
		there, err := d.addresses.Present(a)
		if err == nil && there {
			d.log.Warn("removing a virtual address", "address", a.IP, "interface", a.Interface, "why", why)
			err = d.addresses.Del(a)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (d *daemon) makeHeartbeat() error {
	c := d.cfg.Cluster
	keys, err := wire.LoadAuthkeys(c.Authkeys)
	if err != nil {
		return err
	}
	id, err := identity.Load(c.StateDir, time.Now())
	if err != nil {
		return err
	}
	var names []string
	var ms []media.Medium
	for _, m := range c.Media {
		spec := media.Spec{Interface: m.Interface, Port: m.Port, Group: m.Group, TTL: m.TTL, Device: m.Device, Baud: m.Baud}
		for n, a := range m.Peers {
			if n != d.cfg.Node {
				spec.Peers = append(spec.Peers, netip.AddrPortFrom(a, m.Port))
			}
		}
		medium, err := media.Open(m.Type, spec)
		if err != nil {
			return fmt.Errorf("cluster.media: %s: %w", m, err)
		}
		names, ms = append(names, medium.Name()), append(ms, medium)
	}
	pings, pingMedia, err := openPings(c.Ping)
	if err != nil {
		return err
	}
	ms = append(ms, pingMedia...)
	changed, err := identity.LoadNodes(c.StateDir, d.cfg.Node)
	if err != nil {
		return err
	}
	core, err := hb.New(hb.Config{
		Node: d.cfg.Node, UUID: id.UUID, Generation: id.Generation, Nonce: nonce(),
		Nodes: changed.Apply(c.Members()), Deleted: changed.Deleted, Autojoin: autojoin(c.Autojoin), Pings: pings, DeadPing: c.DeadPing,
		Keepalive: c.Keepalive, Deadtime: c.Deadtime, Warntime: c.Warntime, Initdead: c.Initdead,
		// The original asks for two seconds more in its first five: a director
		// that dies then would be missed that much later.
		StartGrace:   -1,
		NoEarlyDeath: !c.Suspicion,
		Format:       wire.Both, Keys: keys, Media: names, Ordered: true,
	}, time.Now(), rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	if err != nil {
		return err
	}
	hosts, err := openHosts(d.cfg, names)
	if err != nil {
		return err
	}
	d.heartbeat, err = driver.New(driver.Config{
		Precise: true,
		Core:    core, Media: ms, Hosts: hosts, BeforeBeat: d.lease.BeforeBeat, Load: driver.LoadAverage,
	})
	if err != nil {
		return err
	}
	return d.makeSync(keys)
}

// nonce is this start's, for keys of method sha256.
func nonce() (n [8]byte) {
	_, _ = crand.Read(n[:]) // never fails
	return n
}

func (d *daemon) makeDirector() {
	// The checks and the neighbours report to the director, which in turn
	// tells them what to watch: it is made last and they are told by closure.
	d.checks = health.New(d.log, func(r health.Result) { d.director.HealthChanged(r) })
	d.followed = neighbour.New(d.log, func(u neighbour.Update) { d.director.NeighbourChanged(u) })
	var carried control.FlowSync
	if d.flows != nil {
		carried = flowSync{d.flows}
	}
	d.director = control.New(control.Options{
		Config: d.cfg, Load: d.load, Version: version,
		Keys:   func() (wire.Keys, error) { return wire.LoadAuthkeys(d.cfg.Cluster.Authkeys) },
		Planes: d.planes.list(), Carriers: d.planes.carriers(),
		Cluster: tapped{d.heartbeat, d.programs}, Addresses: d.addresses, Neighbours: d.followed, Checks: d.checks,
		Lease: d.lease, Sync: carried, SaveNodes: d.saveNodes, ViewChanged: d.tellView, Log: d.log, Now: time.Now,
	})
}

// serve runs all tasks until the director has stopped, or one of them fails.
func (d *daemon) serve(ctx context.Context, socket listener) error {
	metrics, err := listenMetrics(d.cfg.Metrics.Listen)
	if err != nil {
		return err
	}
	// Tasks outlive ctx: the hand-over at the end needs them all.
	tasks, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, tasks := errgroup.WithContext(tasks)
	g.Go(func() error { return api.Serve(tasks, socket, d.director, d.programs, d.log) })
	g.Go(func() error { return serveMetrics(tasks, metrics, d.director.Status, d.log) })
	g.Go(func() error { return d.heartbeat.Run(tasks) })
	g.Go(func() error { d.programs.Run(tasks); return nil })
	g.Go(func() error { d.checks.Run(tasks); return nil })
	g.Go(func() error { return d.followed.Run(tasks) })
	g.Go(func() error { d.carryFlows(tasks); return nil })
	g.Go(func() error { return d.signals(tasks) })
	g.Go(func() error { return tellSystemd(tasks, d.director.Status, d.log) })
	g.Go(func() error {
		defer stop()
		// A task that fails ends the director too, with a hand-over.
		asked, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(tasks, cancel)()
		err := d.director.Run(asked)
		d.linger(tasks)
		return err
	})
	return g.Wait()
}

// lingering is how long the heartbeat goes on after the director has stopped.
const lingering = 2 * time.Second

// linger goes on answering retransmission requests for a while: the peer must
// not miss our last words (heartbeat-wire.md section 11).
func (d *daemon) linger(ctx context.Context) {
	alive := false
	for _, p := range d.heartbeat.View().Peers {
		alive = alive || p.Heard && p.Status != hb.Dead
	}
	if !alive || d.heartbeat.Stop() != nil {
		return
	}
	select {
	case <-time.After(lingering):
	case <-ctx.Done():
	}
}

// restart is the end of a daemon after which the next one begins at once. With a
// living peer it is an ordinary stop, with the hand-over. A director that is alone
// leaves everything as it is: its lease has no end, and the next daemon takes its
// place without the loss of a packet. (If a peer comes to life at this very moment
// the lease is armed, and ends with the process.)
func (d *daemon) restart() error {
	if mode, err := d.lease.Mode(); mode == control.LeaseUnlimited && err == nil {
		d.log.Info("restarting: nobody else is there, the data plane stays as it is")
		d.vanish()
	}
	return syscall.Kill(os.Getpid(), syscall.SIGTERM)
}

// signals are the operator's: HUP reloads, a second INT or TERM stops waiting,
// USR1 says that a restart is meant.
func (d *daemon) signals(ctx context.Context) error {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
	defer signal.Stop(ch)
	stops := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-ch:
			switch s {
			case syscall.SIGHUP:
				notifyReloading()
				_ = d.director.Reload(ctx) // logged and shown in status
				notifyReady()
			case syscall.SIGUSR1:
				if err := d.restart(); err != nil {
					return fmt.Errorf("restart: %w", err)
				}
			default:
				if stops++; stops > 1 {
					d.director.Kill()
				}
			}
		}
	}
}
