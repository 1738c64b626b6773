package carry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"

	"systole/dataplane"
	"systole/dataplane/flowsync"
	"systole/dataplane/ipvs"
	"systole/dataplane/xdp"
)

// loopback is the interface of the daemon that is started for us. Nobody else
// would start one there: it reaches no other machine.
const loopback = "lo"

// maxMessage is what a backup daemon on the loopback interface takes for
// certain, bytes; 255 connections of IPv6 are less.
const maxMessage = 32 << 10

// insertPart is how many connections are inserted into XDP at once.
const insertPart = 4096

// Between returns the function that copies connections between an XDP and an
// IPVS plane (fallback.Config.Carry). It returns how many the other plane has
// now, templates of persistent clients among them, and why not all; it may be
// called again.
func Between(log *slog.Logger) func(ctx context.Context, from, to dataplane.Plane) (int, error) {
	return func(ctx context.Context, from, to dataplane.Plane) (int, error) {
		switch from := from.(type) {
		case *xdp.Plane:
			if to, ok := to.(*ipvs.Plane); ok {
				return toKernel(ctx, from.FlowsAndTemplates(), to, log)
			}
		case *ipvs.Plane:
			if to, ok := to.(*xdp.Plane); ok {
				return insert(ctx, from.FlowsAndTemplates(), to.Insert)
			}
		}
		return 0, fmt.Errorf("connections cannot be carried from %T to %T", from, to)
	}
}

// toKernel has a backup daemon take the flows.
func toKernel(ctx context.Context, flows iter.Seq[dataplane.Flow], to *ipvs.Plane, log *slog.Logger) (int, error) {
	if none(flows) {
		return 0, nil
	}
	d, err := daemon(to)
	if err != nil {
		return 0, err
	}
	sent, templates := 0, 0
	flows = sayable(flows, &templates)
	feed, err := feedOf(d)
	if err == nil {
		sent, err = feed.Send(ctx, flows, func(sent int) { log.Info("connections on their way to ipvs", "sent", sent) })
	}
	if d.Interface != loopback {
		return sent, err
	}
	// When it has stopped it has done with all it had.
	if err := errors.Join(err, to.StopDaemon(ipvs.SyncBackup)); err != nil {
		return sent, err
	}
	st, err := to.Stats()
	if err != nil {
		return sent, fmt.Errorf("whether ipvs has the connections: %w", err)
	}
	return sent, arrived(sent-templates, int(st.Flows))
}

// sayable are the flows without the templates that no message can say: those of
// ranges of ports, which IPVS has not, and of servers of the other family. Each
// time they are listed templates is set anew to how many are among them.
func sayable(flows iter.Seq[dataplane.Flow], templates *int) iter.Seq[dataplane.Flow] {
	return func(yield func(dataplane.Flow) bool) {
		*templates = 0
		for f := range flows {
			if f.State == dataplane.FlowTemplate {
				if f.Service.LastPort != 0 || f.Server.Is6() != f.Client.Addr().Is6() {
					continue
				}
				*templates++
			}
			if !yield(f) {
				return
			}
		}
	}
}

// arrived is what is to be said of so many connections in IPVS after so many
// have been sent. It has more if it had others.
func arrived(sent, has int) error {
	if has < sent {
		return fmt.Errorf("%d connections were sent to ipvs, and it has %d: is its service there, and does a packet filter leave multicast on %s alone?", sent, has, loopback)
	}
	return nil
}

func none(flows iter.Seq[dataplane.Flow]) bool {
	for range flows {
		return false
	}
	return true
}

// daemon is the backup daemon that runs, or one started for us. One that runs
// on the loopback interface was ours, and was left by an end without warning.
func daemon(p *ipvs.Plane) (ipvs.Daemon, error) {
	running, err := p.Daemons()
	if err != nil {
		return ipvs.Daemon{}, fmt.Errorf("the kernel's sync daemons: %w", err)
	}
	for _, d := range running {
		if d.Role == ipvs.SyncBackup {
			return d, nil
		}
	}
	d := ipvs.Daemon{Role: ipvs.SyncBackup, Interface: loopback}
	return d, p.StartDaemon(d)
}

// feedOf is how a daemon is reached.
func feedOf(d ipvs.Daemon) (flowsync.Feed, error) {
	group, port, size := d.Group, d.Port, int(d.MaxLen)
	if !group.IsValid() {
		group = ipvs.DefaultSyncGroup
	}
	if port == 0 {
		port = ipvs.DefaultSyncPort
	}
	if size == 0 || size > maxMessage {
		size = maxMessage
	}
	if !group.Is4() {
		return flowsync.Feed{}, fmt.Errorf("the backup sync daemon that runs on %s listens to %s: only one with an IPv4 group can be sent the connections of XDP", d.Interface, group)
	}
	return flowsync.Feed{Interface: d.Interface, Group: netip.AddrPortFrom(group, port), SyncID: d.SyncID, MaxLen: size}, nil
}

// insert stores the flows in parts, and counts those that are stored.
func insert(ctx context.Context, flows iter.Seq[dataplane.Flow], into func([]dataplane.Flow) (stored, noRoom int, err error)) (stored int, err error) {
	part := make([]dataplane.Flow, 0, insertPart)
	noRoom := 0
	flush := func() error {
		n, full, err := into(part)
		stored, noRoom, part = stored+n, noRoom+full, part[:0]
		return err
	}
	for f := range flows {
		part = append(part, f)
		if len(part) < cap(part) {
			continue
		}
		if err := flush(); err != nil {
			return stored, err
		}
		if ctx.Err() != nil {
			return stored, fmt.Errorf("the rest stays in ipvs: %w", ctx.Err())
		}
	}
	if err := flush(); err != nil {
		return stored, err
	}
	if noRoom > 0 {
		return stored, fmt.Errorf("%d connections stay in ipvs: they found no room in the flow table of xdp (dataplane.flows)", noRoom)
	}
	return stored, nil
}
