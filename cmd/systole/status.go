package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"systole/control"
)

type statusCmd struct {
	JSON  bool          `help:"Print the documented, stable JSON form."`
	Watch time.Duration `help:"Print again at this interval until interrupted." placeholder:"DURATION"`
	socketFlag
}

// statusExit are the exit codes that monitoring plugins use.
var statusExit = map[string]exitCode{"ok": 0, "degraded": 1, "critical": 2}

func (c statusCmd) Run(ctx context.Context) error {
	for {
		s, err := c.get(ctx)
		if err != nil {
			return err
		}
		if c.Watch > 0 && !c.JSON && isTerminal(os.Stdout) {
			fmt.Print("\033[H\033[2J")
		}
		if err := c.print(os.Stdout, s); err != nil {
			return err
		}
		if c.Watch <= 0 {
			if code := statusExit[s.Health]; code != 0 {
				return code
			}
			return nil
		}
		select {
		case <-time.After(c.Watch):
		case <-ctx.Done():
			return nil
		}
	}
}

func (c statusCmd) get(ctx context.Context) (*control.State, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client().Status(ctx)
}

func (c statusCmd) print(w io.Writer, s *control.State) error {
	if c.JSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	return writeStatus(w, s)
}

// writeStatus renders a State for people.
func writeStatus(w io.Writer, s *control.State) error {
	fmt.Fprintf(w, "%s is %s, holds %s: %s\n", s.Node, s.Role, s.Holds, s.Health)
	for _, p := range s.Problems {
		fmt.Fprintf(w, "  ! %s\n", p)
	}
	fmt.Fprintf(w, "systole %s, up %v%s\n\n", s.Version, s.At.Sub(s.Started).Round(time.Second), duty(s))

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	writeNodes(t, s.Nodes)
	fmt.Fprintf(t, "\nVIEW\tMEMBERS\tQUORUM\n%d of %s\t%s\t%s\n", s.View.Number, orDash(s.View.Coordinator), strings.Join(s.View.Members, " "), s.View.Why)
	if len(s.Pings) > 0 {
		fmt.Fprintln(t, "\nPING NODE\tSTATUS\tLAST ANSWER")
		for _, p := range s.Pings {
			fmt.Fprintf(t, "%s\t%s\t%s\n", p.Name, p.Status, age(p.Age))
		}
	}
	if s.Role == control.RoleWitness {
		return t.Flush()
	}
	fmt.Fprintln(t, "\nGROUP\tROLE\tOWNER\tPREFERRED\tADDRESSES")
	for _, g := range s.Groups {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", g.Name, g.Role, orDash(g.Owner), g.Preferred, addresses(g.VIPs))
	}
	fmt.Fprintln(t)
	tablePlanes(t, s.Planes)
	if line := flowTable(s.Flows, s.FlowTableSize, s.FlowTableBytes); line != "" {
		fmt.Fprintf(t, "\n%s\n", line)
	}
	writeSync(t, s.Sync)
	fmt.Fprintln(t, "\nSERVICE\tSTATE\tWEIGHT\tSCHEDULED\tACTIVE\tINACTIVE\tPACKETS\tWHY")
	for _, svc := range s.Services {
		fmt.Fprintf(t, "%s %s\t%s\t\t%d\t\t\t%d\t%s\n", svc.Service, svc.Scheduler, svc.State, svc.Counters.Connections, svc.Counters.Packets, carrier(svc))
		for _, r := range svc.Servers {
			fmt.Fprintf(t, "  -> %s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", r.Address, serverState(r), weight(r),
				r.Counters.Connections, r.Conns.Active, r.Conns.Inactive, r.Counters.Packets, r.Reason)
		}
	}
	return t.Flush()
}

// duty is what the node is there for, in its own words.
func duty(s *control.State) string {
	if s.Role == control.RoleWitness {
		return "; it votes for the quorum and owns nothing"
	}
	return fmt.Sprintf("; ownership %s, auto failback %s, lease %s%s", s.Takeover.State, onOff(s.Takeover.AutoFailback), s.Lease, ownership(s.Takeover))
}

// ownership is what else there is to say of who may own what; most directors
// have nothing of it.
func ownership(t control.TakeoverState) string {
	var out string
	if t.Legacy {
		out += ", the peer is spoken to as legacy"
	}
	if t.AtMostOne {
		out += ", at most one: " + map[bool]string{true: "quorum", false: "no quorum"}[t.Quorum]
	}
	if t.Pings >= 0 {
		out += fmt.Sprintf(", ping nodes %d", t.Pings)
		if t.PeerPings >= 0 {
			out += fmt.Sprintf(" (the peer %d)", t.PeerPings)
		}
	}
	return out
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func age(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return d.Round(time.Millisecond).String() + " ago"
}

func addresses(vs []control.VIPState) string {
	out := make([]string, 0, len(vs))
	for _, v := range vs {
		where := ""
		if v.Present {
			where = " (here, " + v.Interface + ")"
		}
		out = append(out, v.Address+where)
	}
	return strings.Join(out, ", ")
}

func planeState(p control.PlaneState) string {
	out := "in force"
	switch {
	case p.Absent:
		return "absent: " + p.Reason
	case p.Error != "":
		return "refused the last change: " + p.Error
	case p.Reason != "":
		out += " (" + p.Reason + ")"
	}
	if p.Leaving > 0 {
		out += fmt.Sprintf(", finishes the connections of %d services that it carries no more", p.Leaving)
	}
	return out
}

func serverState(r control.ServerState) string {
	switch {
	case r.Fallback:
		return "fallback"
	case r.Quiesced:
		return r.Health + ", quiesced"
	}
	return r.Health
}

func weight(r control.ServerState) string {
	if !r.InTable {
		return "-"
	}
	return fmt.Sprint(r.Effective)
}

// isTerminal reports whether f is one.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
