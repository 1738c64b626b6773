package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"text/tabwriter"
	"time"

	"systole/control/api"
	"systole/dataplane/observe"
)

type flowsCmd struct {
	Plane   string     `help:"Only of this data plane: xdp or ipvs." placeholder:"PLANE" enum:",xdp,ipvs" default:""`
	Client  string     `help:"Only of clients with this address, address and port, or prefix (10.0.0.0/8)." placeholder:"CLIENT"`
	Service string     `help:"Only of this virtual service (192.168.145.101:80/tcp), or of all of an address." placeholder:"SERVICE"`
	Server  netip.Addr `help:"Only those that this real server has." placeholder:"ADDRESS"`
	State   string     `help:"Only in this state: SYN_RECV, ESTABLISHED, FIN_WAIT or UDP." placeholder:"STATE"`
	By      string     `help:"Count them by server, service, client or state, the largest first." placeholder:"WHAT" enum:",server,service,client,state" default:""`
	Count   bool       `help:"Print only how many there are."`
	Limit   int        `short:"n" help:"Print at most so many lines; 0: all." default:"50" placeholder:"N"`
	JSON    bool       `help:"Print the documented JSON lines; the last one is the end."`
	socketFlag
}

func (c flowsCmd) Run(ctx context.Context) error {
	q, err := c.query()
	if err != nil {
		return err
	}
	lines := c.client().Flows(ctx, q)
	switch {
	case c.JSON:
		return flowsJSON(os.Stdout, lines)
	case c.Count:
		return flowsCount(os.Stdout, lines)
	}
	return writeFlows(os.Stdout, q, lines)
}

func (c flowsCmd) query() (api.FlowQuery, error) {
	q := api.FlowQuery{Plane: c.Plane, Service: c.Service, Server: c.Server, State: c.State, By: c.By, Limit: c.Limit}
	if c.Limit < 0 {
		return q, errors.New("--limit cannot be negative; 0 is all")
	}
	if c.Count {
		if c.By != "" {
			return q, errors.New("--by counts already: leave --count out")
		}
		q.Limit = -1
	}
	if c.Client != "" {
		var err error
		if q.Client, q.Port, err = observe.ParseClient(c.Client); err != nil {
			return q, err
		}
	}
	return q, nil
}

func flowsJSON(w io.Writer, lines iter.Seq2[api.FlowLine, error]) error {
	enc := json.NewEncoder(w)
	for l, err := range lines {
		if err != nil {
			return err
		}
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

func flowsCount(w io.Writer, lines iter.Seq2[api.FlowLine, error]) error {
	for l, err := range lines {
		if err != nil {
			return err
		}
		if l.End != nil {
			fmt.Fprintln(w, l.End.Flows)
		}
	}
	return nil
}

// writeFlows is the list for people, in columns.
func writeFlows(w io.Writer, q api.FlowQuery, lines iter.Seq2[api.FlowLine, error]) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if q.By == "" {
		fmt.Fprintln(t, "CLIENT\tSERVICE\tPORT\tREAL SERVER\tSTATE\tIDLE\tEXPIRES IN")
	} else {
		fmt.Fprintf(t, "FLOWS\t%s\n", map[string]string{"server": "REAL SERVER", "service": "SERVICE", "client": "CLIENT", "state": "STATE"}[q.By])
	}
	for l, err := range lines {
		switch {
		case err != nil:
			return errors.Join(t.Flush(), err)
		case l.Flow != nil:
			f := l.Flow
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%v\t%v\n", f.Client, f.Service, f.Port, f.Server, f.State,
				f.Age.Round(time.Second), f.Expires.Round(time.Second))
		case l.Group != nil:
			fmt.Fprintf(t, "%d\t%s\n", l.Group.Flows, l.Group.Name)
		default:
			if err := t.Flush(); err != nil {
				return err
			}
			flowsEnd(w, q, *l.End)
		}
	}
	return nil
}

func flowsEnd(w io.Writer, q api.FlowQuery, end api.FlowsEnd) {
	fmt.Fprintf(w, "%d flows", end.Flows)
	if end.More > 0 {
		what := ""
		if q.By != "" {
			what = " groups"
		}
		fmt.Fprintf(w, ", %d%s more (--limit)", end.More, what)
	}
	if end.Ungrouped > 0 {
		fmt.Fprintf(w, ", %d of clients beyond those counted", end.Ungrouped)
	}
	fmt.Fprintln(w)
}
