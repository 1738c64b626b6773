package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"systole/hb/media/mediatest"
)

// Two directors with a LAN and a null-modem cable between them, and no ucast. A
// LAN that is cut is told of by both, and neither takes the other for dead: the
// cable still carries the beats, and the hand-over.
func TestSerialCableKeepsTheDirectorsTogether(t *testing.T) {
	needRoot(t)
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
	p.wait("all links up", 5*time.Second, both(true))
	p.must(p.daemons["node2"].host.Cut())
	p.wait("both told of the LAN", 5*time.Second, both(false))
	time.Sleep(1500 * time.Millisecond) // for a director that would take the other for dead
	roles := func(a, b string) func() bool {
		return func() bool {
			x, y := p.status("node1"), p.status("node2")
			return x != nil && y != nil && x.Role == a && y.Role == b
		}
	}
	if !roles("active", "standby")() {
		t.Error("the LAN was cut, the cable was not, and yet the roles changed")
	}
	p.must(p.daemons["node2"].host.Plug())
	p.wait("all links up again", 5*time.Second, both(true))
	if _, err := p.systole("node1", "standby"); err != nil {
		t.Error(err)
	}
	p.wait("hand-over", 5*time.Second, roles("standby", "active"))
	for _, name := range nodes {
		for _, e := range p.status(name).Events {
			if strings.Contains(e.Text, "no second chance") {
				t.Errorf("%s: %s", name, e.Text)
			}
		}
	}
}
