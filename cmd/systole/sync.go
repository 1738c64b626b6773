package main

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"systole/control"
	"systole/control/config"
	"systole/dataplane/flowsync"
	"systole/hb/wire"
)

// flowSync is flowsync.Syncer with the heartbeat's keys.
type flowSync struct{ *flowsync.Syncer }

var _ control.FlowSync = flowSync{}

// SetKeys implements control.FlowSync.
func (s flowSync) SetKeys(k wire.Keys) error { return s.Syncer.SetKeys(flowKeys(k)) }

// flowKeys are keys of flow synchronisation made of the heartbeat's. A key of
// method crc has no secret, so the one made of it finds accidents only, as there.
func flowKeys(k wire.Keys) flowsync.Keys {
	out := flowsync.Keys{Send: uint8(k.Send)}
	for _, key := range k.Keys {
		out.Keys = append(out.Keys, flowsync.Derive(uint8(key.Index), key.Secret))
	}
	return out
}

// Sizes of headers, bytes: the most that a message may have is what the
// kernel's daemons allow on Ethernet, whatever the MTU.
const (
	usualMTU = 1500
	headers4 = 20 + 8
	headers6 = 40 + 8
)

// makeSync prepares flow synchronisation; nil if the config has none, or no
// plane here has a flow table.
func (d *daemon) makeSync(keys wire.Keys) error {
	c := d.cfg.Sync
	if c == nil || d.cfg.Witness() {
		return nil
	}
	table := d.planes.table
	if table == nil {
		d.log.Warn("no flows are carried to the other director: only the XDP plane's are, and there was none at the start; the kernel has its own daemons (ipvsadm --start-daemon)")
		return nil
	}
	to := syncTo(c, d.cfg.Node)
	size := usualMTU
	for _, name := range c.Interfaces {
		if ifi, err := net.InterfaceByName(name); err == nil {
			size = min(size, ifi.MTU)
		}
	}
	if to[0].Addr().Is6() {
		size -= headers6
	} else {
		size -= headers4
	}
	var session [8]byte
	_, _ = crand.Read(session[:]) // never fails
	core, err := flowsync.New(flowsync.Config{
		SyncID: c.SyncID, MaxSize: size, Bandwidth: c.Bandwidth, Keys: flowKeys(keys),
		Session: binary.BigEndian.Uint64(session[:]) | 1, Kernel: c.Kernel,
	}, time.Now())
	if err != nil {
		return err
	}
	var paths []flowsync.Path
	for _, name := range c.Interfaces {
		paths = append(paths, flowsync.Path{Interface: name, Port: c.Port, To: to, TTL: c.TTL})
	}
	d.flows = flowsync.NewSyncer(flowsync.Options{
		Core: core, Table: table.NewSweep(), Paths: paths, Log: d.log,
		Changed: func(s flowsync.State) { d.director.FlowsChanged(s) },
	})
	d.log.Info("flow synchronisation", "how", c.String(), slog.Int("message_bytes", size))
	return nil
}

// syncTo is where messages go.
func syncTo(c *config.Sync, node string) []netip.AddrPort {
	if c.Mode == config.Multicast {
		return []netip.AddrPort{netip.AddrPortFrom(c.Group, c.Port)}
	}
	var to []netip.AddrPort
	for n, a := range c.Peers {
		if n != node {
			to = append(to, netip.AddrPortFrom(a, c.Port))
		}
	}
	return to
}

// carryFlows runs it, if there is any.
func (d *daemon) carryFlows(ctx context.Context) {
	if d.flows != nil {
		d.flows.Run(ctx)
	}
}

// writeSync renders flow synchronisation; nothing if there is none.
func writeSync(w io.Writer, s *flowsync.State) {
	if s == nil {
		return
	}
	yes := map[bool]string{true: "yes", false: "no"}
	fmt.Fprintln(w, "\nFLOW SYNC\tPEER HAS OURS\tWE HAVE ITS\tLAG\tSENT\tRECEIVED\tREFUSED\tNO ROOM\tMISSED MESSAGES")
	fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%d\t%d\t%d\t%d\t%d\n", map[bool]string{true: "up", false: "no peer"}[s.Peer], yes[s.InSync], yes[s.Complete],
		s.Lag.Round(time.Millisecond), s.Sent.Flows, s.Received.Flows, s.Refused, s.NoRoom, s.Missed)
}
