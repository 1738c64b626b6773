package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// needIPVS is for tests that run in a virtual machine: make test puts them there.
func needIPVS(t *testing.T) {
	t.Helper()
	if os.Getenv("SYSTOLE_IPVS") != "1" {
		t.Skip("needs a kernel with IPVS, and SYSTOLE_IPVS=1 to say that it has it")
	}
}

// number is what the environment says, for longer runs than make test's.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestPlanesTakeTurns goes from XDP to the kernel's IPVS and back, by command:
// every connection goes on where it began, and new ones are served. Then XDP
// loses its interface, and IPVS serves without being told, the connections that
// are open among them.
func TestPlanesTakeTurns(t *testing.T) {
	needIPVS(t)
	switches, connections := number(t, "SYSTOLE_SWITCHES", 6), number(t, "SYSTOLE_CONNECTIONS", 100)
	p := newPair(t, 2, `  - virtual: 192.168.145.101:80
    check: {type: tcp, port: 81, interval: 10s, timeout: 10s, fall: 10}
    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]
`, func(p *pair) {
		p.echo()
		for _, n := range nodes { // a machine that stands still for a while is no failover
			p.replace(n, fmt.Sprintf("deadtime: %v", deadtime), "deadtime: 1m")
			p.replace(n, fmt.Sprintf("initdead: %v", initdead), "initdead: 2m")
		}
	})
	p.servable("192.168.145.101:80/tcp", 2)
	begin := time.Now()
	open := p.open(connections)
	t.Logf("%d connections after %s", len(open), time.Since(begin))
	gone, at := 0, byte(1)
	all := func(when string) {
		t.Helper()
		begin := time.Now()
		at++
		lost, first := alive(open, at)
		if lost > 0 {
			t.Errorf("%s: %d of %d connections lost, the first: %v\n%s", when, lost, len(open), first, p.traffic())
		}
		gone += lost
		t.Logf("%s: %d connections asked in %s", when, len(open), time.Since(begin))
	}
	carries := func(plane string) func() bool {
		return func() bool {
			s := p.status("node1")
			return s != nil && s.Services[0].Plane == plane
		}
	}
	for n := range switches {
		plane, want := "ipvs", "ipvs"
		if n%2 == 1 {
			plane, want = "auto", "xdp"
		}
		if out, err := p.systole("node1", "plane", plane); err != nil {
			t.Fatalf("plane %s: %v %s", plane, err, out)
		}
		if s := p.status("node1"); s.Services[0].Plane != want || s.PlaneChoice != plane {
			t.Errorf("plane %s: %s carries it: %s", plane, s.Services[0].Plane, s.Services[0].PlaneWhy)
		}
		all("plane " + plane)
		open = append(open, p.open(1)...)
		if plane == "ipvs" {
			begin, had := time.Now(), -1
			p.wait("the kernel has every connection", 10*time.Second, func() bool {
				n := p.inKernel("node1")
				if n != had {
					t.Logf("the kernel has %d of %d connections after %s more", n, len(open), time.Since(begin))
				}
				had = n
				return n >= len(open)
			})
		}
	}
	if switches%2 == 1 {
		t.Fatal("the last switch must be to xdp")
	}
	p.listed(open)
	leave := p.usurp("node1")
	p.wait("ipvs carries on", 5*time.Second, carries("ipvs"))
	open = append(open, p.open(1)...)
	all("without xdp")
	leave()
	p.wait("xdp carries it again", 5*time.Second, carries("xdp"))
	all("xdp again")
	again, err := p.sentAgain()
	p.must(err)
	t.Logf("the client sent %d segments again", again)
	t.Logf("TURNS\t%d switches\t%d connections\t%d lost", switches+2, len(open), gone)
}

// inKernel is how many established connections the kernel's IPVS has at a
// director.
func (p *pair) inKernel(node string) (n int) {
	p.t.Helper()
	p.must(p.daemons[node].host.Do(func() error {
		list, err := os.ReadFile("/proc/thread-self/net/ip_vs_conn")
		n = strings.Count(string(list), " ESTABLISHED ")
		return err
	}))
	return n
}

// listed compares "systole ipvs -lnc", while XDP carries the connections, with
// those that are open: each is there once, in ipvsadm's form.
func (p *pair) listed(open []net.Conn) {
	p.t.Helper()
	out, err := p.ipvs("node1", "-lnc")
	p.must(err)
	lines := map[string]int{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 6 && f[0] == "TCP" && f[2] == "ESTABLISHED" && f[4] == "192.168.145.101:80" {
			lines[f[3]]++
		}
	}
	for _, c := range open {
		if from := c.LocalAddr().String(); lines[from] != 1 {
			p.t.Errorf("ipvs -lnc lists the connection from %s %d times:\n%s", from, lines[from], out)
			return
		}
	}
}

// ipvs runs "systole ipvs" in the director's own network, where the kernel's
// IPVS is that it uses.
func (p *pair) ipvs(node string, args ...string) (string, error) {
	d := p.daemons[node]
	return p.run(d.host, append(append([]string{binary, "ipvs"}, args...), "--socket", d.dir+"/systole.sock")...)
}
