package demo

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"

	"systole/control"
	"systole/test/netlab/probe"
)

func (d *demo) stepUp(ctx context.Context, s *Step) error {
	s.expect("node1 active with the virtual address, node2 standby, each sees the other")
	begin := time.Now()
	for _, n := range d.nodes() {
		if err := n.start(); err != nil {
			return err
		}
	}
	got, err := d.until(ctx, 15*time.Second, "both up, node1 active", d.settled(d.node1))
	if err != nil {
		return err
	}
	s.figure("up", time.Since(begin))
	for _, n := range d.nodes() {
		s.saw("%s %s, %s", n.name, got[n].Role, planeOf(got[n]))
	}
	return nil
}

// planeOf says which data plane forwards.
func planeOf(st *control.State) string {
	for _, p := range st.Planes {
		if !p.Absent {
			return strings.TrimSpace("data plane " + p.Name + " " + p.Mode)
		}
	}
	return "no data plane"
}

func (d *demo) stepWeb(ctx context.Context, s *Step) error {
	return d.inTurn(ctx, s, 100)
}

// inTurn asks n times, one after the other, and wants web1 and web2 strictly
// in turn.
func (d *demo) inTurn(ctx context.Context, s *Step, n int) error {
	s.expect("web1, web2, web1, ... : %d each", n/2)
	count := map[string]int{}
	var last string
	repeated := 0
	begin := time.Now()
	for i := range n {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		body, err := probe.Get(d.client, webRequest())
		if err != nil {
			return fmt.Errorf("%w: request %d of %d: %w", errAborted, i+1, n, err)
		}
		count[body]++
		if body == last {
			repeated++
		}
		last = body
	}
	s.figure("per_request", time.Since(begin)/time.Duration(n))
	s.figure("out_of_turn", repeated)
	s.saw("%d x %q, %d x %q, %d out of turn", count[answer1], answer1, count[answer2], answer2, repeated)
	s.require(count[answer1] == n/2 && count[answer2] == n/2, "not %d each", n/2)
	s.require(repeated == 0, "%d times the same server twice running", repeated)
	return nil
}

func (d *demo) stepDNS(ctx context.Context, s *Step) error {
	const n = 20
	s.expect("%s is %s, both name servers asked %d times over each of udp and tcp", siteName, vip, n/2)
	for _, network := range []string{"udp", "tcp"} {
		before := d.asked(network)
		for i := range n {
			c, err := d.nameServer(ctx, network)
			if err != nil {
				return fmt.Errorf("%w: question %d of %d over %s: %w", errAborted, i+1, n, network, err)
			}
			// At the end: the next question from its port would be the same flow.
			defer c.Close()
			got, err := lookUp(c)
			if err != nil {
				return fmt.Errorf("%w: question %d of %d over %s: %w", errAborted, i+1, n, network, err)
			}
			s.require(got == vip.String(), "%s: the answer is %s", network, got)
		}
		after := d.asked(network)
		one, two := int(after[0]-before[0]), int(after[1]-before[1])
		s.figure(network+"_server1", one)
		s.figure(network+"_server2", two)
		s.saw("%s: %d answers, server1 %d, server2 %d", network, n, one, two)
		s.require(one == n/2 && two == n/2, "%s: not %d each", network, n/2)
	}
	return nil
}

// asked tells how many questions each name server has had.
func (d *demo) asked(network string) [2]uint64 {
	u1, t1 := d.dns1.Asked()
	u2, t2 := d.dns2.Asked()
	if network == "tcp" {
		return [2]uint64{t1, t2}
	}
	return [2]uint64{u1, u2}
}

// nameServer is a connection to the service of one.
func (d *demo) nameServer(ctx context.Context, network string) (net.Conn, error) {
	return d.client.DialContext(ctx, network+"4", webRequestAt(53).String())
}

// lookUp asks a name server for the site's address, once.
func lookUp(c net.Conn) (string, error) {
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(siteName), dns.TypeA)
	conn := &dns.Conn{Conn: c}
	if err := conn.WriteMsg(q); err != nil {
		return "", err
	}
	r, err := conn.ReadMsg()
	if err != nil {
		return "", err
	}
	if len(r.Answer) == 1 {
		if a, ok := r.Answer[0].(*dns.A); ok && r.Id == q.Id {
			return a.A.String(), nil
		}
	}
	return fmt.Sprintf("%s, %d records", dns.RcodeToString[r.Rcode], len(r.Answer)), nil
}

func (d *demo) stepTables(ctx context.Context, s *Step) error {
	s.expect("the same table on both; the address on the active node and not on the standby")
	got, err := d.until(ctx, 5*time.Second, "both settled", d.settled(d.node1))
	if err != nil {
		return err
	}
	tables := map[*node]string{}
	for _, n := range d.nodes() {
		has, err := n.hasAddress()
		if err != nil {
			return err
		}
		tables[n] = tableOf(got[n])
		s.saw("%s: %s, address on eth0: %s", n.name, got[n].Role, yesNo(has))
		s.require(has == (got[n].Role == "active"), "%s is %s and has the address: %s", n.name, got[n].Role, yesNo(has))
	}
	s.saw("%s", tables[d.node1])
	s.require(tables[d.node1] == tables[d.node2], "node2 has another table:\n%s", tables[d.node2])
	s.require(strings.Count(tables[d.node1], "weight 1") == 6, "want three services of two servers, weight 1 each")
	return nil
}

// hasAddress asks the kernel, not the daemon.
func (n *node) hasAddress() (bool, error) {
	nl := n.host.Netlink()
	nic, err := nl.LinkByName("eth0")
	if err != nil {
		return false, err
	}
	addrs, err := nl.AddrList(nic, 2) // AF_INET
	if err != nil {
		return false, err
	}
	for _, a := range addrs {
		if a.IP.Equal(vip.AsSlice()) {
			return true, nil
		}
	}
	return false, nil
}

// tableOf prints the table in force, a line per service.
func tableOf(st *control.State) string {
	var lines []string
	for _, svc := range st.Services {
		var servers []string
		for _, r := range svc.Servers {
			if r.InTable {
				servers = append(servers, fmt.Sprintf("%s weight %d", r.Address, r.Effective))
			}
		}
		if servers == nil {
			servers = []string{"no server"}
		}
		lines = append(lines, fmt.Sprintf("%-22s %s -> %s", svc.Service, svc.Scheduler, strings.Join(servers, ", ")))
	}
	return strings.Join(lines, "\n")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
