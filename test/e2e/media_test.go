package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"systole/control"
	"systole/hb/media/mediatest"
)

// Two directors with a LAN and a null-modem cable between them, and no ucast. A
// LAN that is cut is told of by both, and neither takes the other for dead: the
// cable still carries the beats, and the hand-over.
func TestSerialCableKeepsTheDirectorsTogether(t *testing.T) {
	needRoot(t)
	const patience = 15 * time.Second // a busy machine
	tty := make(map[string]string)
	tty["node1"], tty["node2"], _ = mediatest.NullModem(t)
	p := newPair(t, 1, fmt.Sprintf("  - {virtual: '%s:80', check: {type: none}, servers: [{address: 192.168.145.200}]}", vip), func(p *pair) {
		for _, name := range nodes {
			old, err := os.ReadFile(p.file(name))
			p.must(err)
			const ucast = "    - {type: ucast, interface: eth0, peers: {node1: 192.168.145.10, node2: 192.168.145.11}}\n"
			cfg := strings.Replace(string(old), ucast, fmt.Sprintf(`    - {type: mcast, interface: eth0}
    - {type: serial, device: %s, baud: 115200}
  addresses: {node1: 192.168.145.10, node2: 192.168.145.11}
`, tty[name]), 1)
			// More patience than elsewhere: the cable is slower than a LAN.
			cfg = strings.Replace(cfg, fmt.Sprintf("deadtime: %v", deadtime), "deadtime: 1s", 1)
			if cfg == string(old) {
				t.Fatalf("no ucast medium in\n%s", old)
			}
			p.must(os.WriteFile(p.file(name), []byte(cfg), 0o600))
		}
	})
	// links are a director's to the other, up or not.
	links := func(name, other string) map[string]bool {
		up := make(map[string]bool)
		if s := p.status(name); s != nil {
			for _, n := range s.Nodes {
				for _, l := range n.Links {
					if n.Name == other {
						kind, _, _ := strings.Cut(l.Medium, " ")
						up[kind] = l.Up
					}
				}
			}
		}
		return up
	}
	both := func(mcast bool) func() bool {
		return func() bool {
			a, b := links("node1", "node2"), links("node2", "node1")
			return a["mcast"] == mcast && b["mcast"] == mcast && a["serial"] && b["serial"]
		}
	}
	// state is a director's status. One that was not given in time, as on a busy
	// machine, says nothing of the director.
	state := func(name string) (s *control.State) {
		t.Helper()
		p.wait("status of "+name, patience, func() bool { s = p.status(name); return s != nil })
		return s
	}
	p.wait("all links up", patience, both(true))
	p.must(p.daemons["node2"].host.Cut())
	p.wait("both told of the LAN", patience, both(false))
	time.Sleep(1500 * time.Millisecond) // for a director that would take the other for dead
	if a, b := state("node1").Role, state("node2").Role; a != "active" || b != "standby" {
		t.Errorf("the LAN was cut, the cable was not, and yet node1 is %s, node2 %s", a, b)
	}
	p.must(p.daemons["node2"].host.Plug())
	p.wait("all links up again", patience, both(true))
	if out, err := p.systole("node1", "standby"); err != nil {
		t.Errorf("standby: %v: %s", err, out)
	}
	p.wait("hand-over", patience, func() bool {
		return state("node1").Role == "standby" && state("node2").Role == "active"
	})
	for _, name := range nodes {
		for _, e := range state(name).Events {
			if strings.Contains(e.Text, "no second chance") {
				t.Errorf("%s: %s", name, e.Text)
			}
		}
	}
}
