package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"systole/control"
	"systole/dataplane"
	"systole/dataplane/ipvs"
)

// ipvsCmd takes ipvsadm's letters for what it does; listing is all it does, so
// they are accepted and change nothing.
type ipvsCmd struct {
	List    bool `short:"l" help:"List the table (always done)."`
	Numeric bool `short:"n" help:"Numeric addresses (always so)."`
	socketFlag
}

func (c ipvsCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := c.client().Status(ctx)
	if err != nil {
		return err
	}
	t, err := ipvsTable(s)
	if err != nil {
		return err
	}
	return ipvs.List(os.Stdout, t)
}

// ipvsTable is a State's table in IPVS's terms: the servers that are in the
// table, fallback included.
func ipvsTable(s *control.State) (ipvs.Table, error) {
	t := ipvs.Table{Size: s.FlowTableSize}
	for _, svc := range s.Services {
		key, err := dataplane.ParseServiceKey(svc.Service)
		if err != nil {
			return t, fmt.Errorf("answer not understood (is the director of another version?): %w", err)
		}
		out := ipvs.Service{Key: key, Scheduler: svc.Scheduler}
		for _, r := range svc.Servers {
			if !r.InTable {
				continue
			}
			addr, err := netip.ParseAddr(r.Address)
			if err != nil {
				return t, fmt.Errorf("answer not understood: %w", err)
			}
			out.Servers = append(out.Servers, ipvs.Server{
				Addr: netip.AddrPortFrom(addr, key.Port), Forward: ipvs.Route, Weight: r.Effective,
				Active: uint32(r.Conns.Active), Inactive: uint32(r.Conns.Inactive),
			})
		}
		t.Services = append(t.Services, out)
	}
	return t, nil
}
