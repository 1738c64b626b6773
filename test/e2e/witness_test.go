package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/test/netlab/standin"
)

// witnessDeadtime is more than elsewhere: three daemons on a busy machine must
// not lose each other by themselves.
const witnessDeadtime = 2 * time.Second

// witness adds node3, which votes and owns nothing, to a pair that is about to
// start, and starts it. No group is owned without quorum then.
func witness(p *pair) {
	p.t.Helper()
	dir := filepath.Join(p.lab.Dir(), "node3.d")
	p.must(os.Mkdir(dir, 0o700))
	p.must(os.WriteFile(filepath.Join(dir, "authkeys"), []byte("auth 1\n1 sha1 e2e-secret\n"), 0o600))
	p.daemons["node3"] = &daemon{
		host: p.host("node3", 12), dir: dir, pin: "/sys/fs/bpf/not-used", log: new(bytes.Buffer),
		api: api.NewClient(filepath.Join(dir, "systole.sock")),
	}
	b, err := os.ReadFile(p.file("node1"))
	p.must(err)
	_, services, _ := strings.Cut(string(b), "\nservices:\n")
	services, _, _ = strings.Cut(services, "\ndataplane:")
	p.write("node3", services)
	for name := range p.daemons {
		p.replace(name, "nodes: [node1, node2]\n", "nodes: [node1, node2]\n  witnesses: [node3]\n  partition: at-most-one\n  quorum: {kind: majority}\n")
		p.replace(name, fmt.Sprintf("deadtime: %v", deadtime), fmt.Sprintf("deadtime: %v", witnessDeadtime))
		p.replace(name, "node2: 192.168.145.11}", "node2: 192.168.145.11, node3: 192.168.145.12}")
	}
	p.start("node3")
}

// all waits until something is true of the state of both directors and the
// witness at once.
func (p *pair) all(what string, patience time.Duration, cond func(*control.State) bool) {
	p.t.Helper()
	p.wait(what, patience, func() bool {
		for name := range p.daemons {
			if s := p.status(name); s == nil || !cond(s) {
				return false
			}
		}
		return true
	})
}

// together is true of a node that sees all three and has the quorum with them.
func together(s *control.State) bool {
	return s.View.Quorum && s.View.Settled && slices.Equal(s.View.Members, []string{"node1", "node2", "node3"})
}

// Two directors and a witness, and nothing is owned without the majority. Nodes
// that are added and removed concern the view and nobody's groups; of a pair
// that is cut the side of the witness goes on, and the other lets go; and when
// it is the witness that dies, nothing happens.
func TestWitnessDecidesWhichSideGoesOn(t *testing.T) {
	const patience = 15 * time.Second // a busy machine
	p := newPair(t, 1, fmt.Sprintf("  - {virtual: '%s:53', protocol: udp, check: {type: none}, servers: [{address: 192.168.145.200}]}", vip), witness)
	dns, err := standin.StartDNS(p.servers[0], "www.a.com", vip)
	p.must(err)
	t.Cleanup(dns.Stop)
	p.servable(netip.AddrPortFrom(vip, 53).String()+"/udp", 1)
	p.all("one view of three", patience, together)

	s := p.status("node3")
	if s.Role != "witness" || s.Holds != "none" || s.Lease != "none" || s.Health != "ok" || len(s.Groups)+len(s.Services)+len(s.Planes) != 0 {
		t.Errorf("the witness: %s holds %s, lease %s, %s %q, groups %v, services %v, planes %v", s.Role, s.Holds, s.Lease, s.Health, s.Problems, s.Groups, s.Services, s.Planes)
	}
	for _, args := range [][]string{{"standby"}, {"takeover"}, {"quiesce", "192.168.145.200"}} {
		if out, err := p.systole("node3", args...); err == nil || !strings.Contains(out, "node3 is no director (cluster.witnesses)") {
			t.Errorf("%s: %v: %s", args[0], err, out)
		}
	}

	own := p.ownership()
	views := p.listen("node1", "--kind", "view")
	epoch := p.status("node1").Takeover.Epoch
	if out, err := p.systole("node2", "node", "add", "node4"); err != nil || !strings.Contains(out, "cluster.witnesses") {
		t.Fatalf("node add: %v: %s", err, out)
	}
	p.all("four nodes", patience, func(s *control.State) bool { return len(s.Nodes) == 4 && s.View.Why == "quorum with 3 of 4 votes" })
	p.wait("node4 is dead to the witness", patience, func() bool {
		s := p.status("node3")
		return s != nil && slices.ContainsFunc(s.Nodes, func(n control.NodeState) bool { return n.Name == "node4" && n.Status == "dead" })
	})
	if out, err := p.systole("node3", "node", "remove", "node4"); err != nil || !strings.Contains(out, "cluster.witnesses") {
		t.Fatalf("node remove: %v: %s", err, out)
	}
	p.all("three nodes", patience, func(s *control.State) bool { return len(s.Nodes) == 3 && together(s) })
	if a := p.status("node1"); a.Role != "active" || a.Takeover.Epoch != epoch || p.status("node2").Role != "standby" {
		t.Errorf("a node was added and removed, and node1 is %s, its epoch %d, was %d", a.Role, a.Takeover.Epoch, epoch)
	}

	p.must(p.daemons["node1"].host.Cut())
	cut := time.Now()
	p.wait("node2 goes on", patience, func() bool { s := p.status("node2"); return s != nil && s.Role == "active" })
	t.Logf("node2 is active %v after the cut", time.Since(cut).Round(time.Millisecond))
	p.wait("node1 has let go", patience, func() bool {
		s := p.status("node1")
		return s != nil && s.Role == "standby" && !s.Takeover.Quorum && !s.Groups[0].VIPs[0].Present
	})
	p.must(p.daemons["node1"].host.Plug())
	p.all("together again", patience, together)
	// Whose it is then depends on who has the quorum first again.
	var owner, other string
	p.wait("one owner", patience, func() bool {
		a, b := p.status("node1"), p.status("node2")
		if a == nil || b == nil || a.Takeover.State != "stable" || b.Takeover.State != "stable" {
			return false
		}
		owner, other = "node1", "node2"
		if b.Groups[0].Role == "active" {
			owner, other = other, owner
			a, b = b, a
		}
		return a.Groups[0].Role == "active" && b.Groups[0].Role == "standby"
	})
	for n := 0; ; {
		if e := views.next(); !e.Snapshot {
			n++
			if m := e.View.Members; n == 1 && len(m) != 3 || !slices.Contains(m, "node1") {
				t.Errorf("view %d that is told of: %+v", n, e.View)
			}
			if len(e.View.Members) == 3 && n > 1 && e.View.Quorum {
				break
			}
		}
	}

	p.daemons["node3"].proc.Kill()
	p.wait("node3 is dead", patience, func() bool {
		a, b := p.status("node1"), p.status("node2")
		return a != nil && b != nil && a.View.Why == "quorum with 2 of 3 votes" && b.View.Why == "quorum with 2 of 3 votes"
	})
	time.Sleep(time.Second) // for a director that would let go, or take
	if a, b := p.status(owner), p.status(other); a.Groups[0].Role != "active" || b.Groups[0].Role != "standby" {
		t.Errorf("the witness died, and %s is %s, %s %s", owner, a.Groups[0].Role, other, b.Groups[0].Role)
	}
	o := own.Stop()
	t.Logf("owners: %v", o)
	if o.Two != 0 || len(o.Strangers) != 0 {
		t.Errorf("two owners in %d of %d ticks, first after %v; strangers %v", o.Two, o.Ticks, o.First, o.Strangers)
	}
}
