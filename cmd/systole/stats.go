package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"systole/control"
	"systole/dataplane"
	"systole/dataplane/xdp"
)

type statsCmd struct {
	CPU  bool `help:"Also by CPU." name:"cpu"`
	JSON bool `help:"Print the documented JSON form; it has all, also by CPU."`
	socketFlag
}

// counted is the JSON form.
type counted struct {
	Services       []countedService     `json:"services"`
	Reasons        map[string]uint64    `json:"reasons"`
	CPUs           []dataplane.CPUStats `json:"cpus"`
	Flows          int64                `json:"flows"` // -1: not known
	FlowTableSize  int                  `json:"flow_table_size"`
	FlowTableBytes int64                `json:"flow_table_bytes"`
}

type countedService struct {
	Service  string             `json:"service"`
	Counters dataplane.Counters `json:"counters"`
	Servers  []countedServer    `json:"servers"`
}

type countedServer struct {
	Address  string             `json:"address"`
	Counters dataplane.Counters `json:"counters"`
	Conns    dataplane.Conns    `json:"conns"`
}

func (c statsCmd) Run(ctx context.Context) error {
	s, err := statusCmd{socketFlag: c.socketFlag}.get(ctx)
	if err != nil {
		return err
	}
	return c.print(os.Stdout, countersOf(s))
}

// countersOf picks the counters out of a State.
func countersOf(s *control.State) counted {
	out := counted{
		Services: []countedService{}, Reasons: s.Reasons, CPUs: s.CPUs, Flows: s.Flows, FlowTableSize: s.FlowTableSize, FlowTableBytes: s.FlowTableBytes,
	}
	for _, svc := range s.Services {
		cs := countedService{Service: svc.Service, Counters: svc.Counters, Servers: []countedServer{}}
		for _, r := range svc.Servers {
			cs.Servers = append(cs.Servers, countedServer{r.Address, r.Counters, r.Conns})
		}
		out.Services = append(out.Services, cs)
	}
	return out
}

func (c statsCmd) print(w io.Writer, s counted) error {
	if c.JSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tCONNECTIONS\tPACKETS\tBYTES\tACTIVE\tINACTIVE")
	for _, svc := range s.Services {
		fmt.Fprintf(t, "%s\t%s\t\t\n", svc.Service, columns(svc.Counters))
		for _, r := range svc.Servers {
			fmt.Fprintf(t, "  -> %s\t%s\t%d\t%d\n", r.Address, columns(r.Counters), r.Conns.Active, r.Conns.Inactive)
		}
	}
	fmt.Fprintln(t, "\nREASON\tPACKETS\tWHAT BECAME OF THEM")
	for _, name := range slices.Sorted(maps.Keys(s.Reasons)) {
		if n := s.Reasons[name]; n > 0 {
			fmt.Fprintf(t, "%s\t%d\t%s\n", name, n, xdp.ExplainReason(name))
		}
	}
	if c.CPU {
		fmt.Fprintln(t, "\nCPU\tCONNECTIONS\tPACKETS\tBYTES")
		for _, cpu := range s.CPUs {
			fmt.Fprintf(t, "%d\t%s\n", cpu.CPU, columns(cpu.Counters))
			for _, name := range slices.Sorted(maps.Keys(cpu.Reasons)) {
				if n := cpu.Reasons[name]; n > 0 {
					fmt.Fprintf(t, "  %s\t\t%d\n", name, n)
				}
			}
		}
	}
	if line := flowTable(s.Flows, s.FlowTableSize, s.FlowTableBytes); line != "" {
		fmt.Fprintf(t, "\n%s\n", line)
	}
	return t.Flush()
}

// flowTable is one line: how full the table is, and the memory that it takes,
// full or not. Empty: there is none.
func flowTable(flows int64, size int, bytes int64) string {
	if flows < 0 || size <= 0 {
		return ""
	}
	line := fmt.Sprintf("flows: %d of %d, %.1f %%", flows, size, 100*float64(flows)/float64(size))
	if bytes > 0 {
		line += fmt.Sprintf(", in %.1f MiB", float64(bytes)/(1<<20))
	}
	return line
}

func columns(c dataplane.Counters) string {
	return fmt.Sprintf("%d\t%d\t%d", c.Connections, c.Packets, c.Bytes)
}
