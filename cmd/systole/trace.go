package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"systole/control/api"
	"systole/dataplane/observe"
	"systole/dataplane/xdp"
)

type traceCmd struct {
	Client string `arg:"" help:"The client: address, address and port, or prefix (10.0.0.0/8)."`
	JSON   bool   `help:"Print each packet as the documented JSON object, one a line, with the beginnings of its frames."`
	Rate   int    `help:"Packets per second and CPU at most; those above are counted as left out." default:"1000" placeholder:"N"`
	packetFlags
	socketFlag
}

// Help is what --help says below the flags' usage.
func (traceCmd) Help() string {
	return `One line a packet: when, where, what it is, what became of it and why. A packet
that was forwarded names the real server, "scheduled" if this packet was what
chose it, and the state of its flow before and after:

    10:00:00.000001 eth0 cpu0 10.0.0.1:40000 > 192.168.145.101:80 tcp SYN
      -> tx to 192.168.145.200, scheduled, flow NONE -> SYN_RECV, service 192.168.145.101:80/tcp

A packet that was not forwarded says the reason by the name that "systole stats"
counts it under. ICMP errors belong to the client of the packet they quote.`
}

// traceSnap is enough for the headers of a tunnel, and of what it carries.
const traceSnap = 192

func (c traceCmd) Run(ctx context.Context) error {
	if c.Count < 0 {
		return errors.New("--count cannot be negative")
	}
	return c.trace(ctx, os.Stdout, os.Stderr)
}

func (c traceCmd) trace(ctx context.Context, out, notes io.Writer) error {
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	r := api.ObserveRequest{Client: c.Client, Service: c.Service, Server: c.Server, Snap: traceSnap, In: true, Out: true, Rate: c.Rate}
	count, lost, err := packets(ctx, c.client(), r, c.Count, func(l api.ObserveLine) error {
		if l.Start {
			fmt.Fprintf(notes, "tracing %s, Ctrl-C ends it\n", c.Client)
			return nil
		}
		if c.JSON {
			return errors.Join(enc.Encode(l.Packet), w.Flush())
		}
		fmt.Fprintln(w, traceLine(l.Packet))
		return w.Flush()
	})
	fmt.Fprintf(notes, "%d packets%s\n", count, lossNote(lost))
	return err
}

// traceLine is a packet for people, on two lines.
func traceLine(p *observe.Packet) string {
	in := observe.Dissect(p.In)
	var what []string
	verdict := p.Verdict.String()
	if p.Server.IsValid() {
		verdict += " to " + p.Server.String()
	} else if p.Verdict.Sent() && len(p.Out) > 6 {
		verdict += " to " + observe.Dissect(p.Out).To.String()
	}
	what = append(what, verdict)
	if p.Scheduled {
		what = append(what, "scheduled")
	}
	if p.After != "" {
		what = append(what, "flow "+p.Before+" -> "+p.After)
	}
	if p.Service != "" {
		what = append(what, "service "+p.Service)
	}
	if out := observe.Dissect(p.Out); p.Verdict.Sent() && out.Inner != nil && in.Inner == nil {
		what = append(what, fmt.Sprintf("in a tunnel %s > %s", out.Src.Addr(), out.Dst.Addr()))
	}
	for _, reason := range p.Reasons {
		if text := xdp.ExplainReason(reason); text != "" {
			reason += " (" + text + ")"
		}
		what = append(what, reason)
	}
	return fmt.Sprintf("%s %s cpu%d %s %d bytes\n  -> %s", p.At.Local().Format("15:04:05.000000"), p.Interface, p.CPU, in, p.InLength, strings.Join(what, ", "))
}
