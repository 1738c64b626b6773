package e2e

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

// kept is a client's connection that stays open.
type kept struct {
	conn net.Conn
	in   *bufio.Reader
}

func (p *pair) keep() *kept {
	p.t.Helper()
	k := new(kept)
	p.must(p.client.Do(func() (err error) {
		k.conn, err = net.DialTimeout("tcp", vip.String()+":80", 2*time.Second*slow)
		return err
	}))
	p.t.Cleanup(func() { k.conn.Close() })
	k.in = bufio.NewReader(k.conn)
	return k
}

// get asks once more on the same connection.
func (k *kept) get() (string, error) {
	if err := k.conn.SetDeadline(time.Now().Add(2 * time.Second * slow)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(k.conn, "GET / HTTP/1.1\r\nHost: www.a.com\r\n\r\n"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body)), err
}

// TestIPVSAlone is a pair of directors without XDP: one is refused it by another
// program on the interface, one does not want it. The kernel's IPVS forwards
// every packet, and its table is the director's: a real server that fails leaves
// it, one that is quiesced stays for what it has, and a clean stop takes all of
// it away.
func TestIPVSAlone(t *testing.T) {
	needIPVS(t)
	p := newPair(t, 2, `  - virtual: 192.168.145.101:80
    check: {type: http, path: /.test.html, virtual_host: www.a.com, expect: ok, interval: 5s, timeout: 5s, fall: 4}
    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]
`, func(p *pair) {
		p.occupy("node1")
		p.replace("node2", "dataplane: {interface: eth0,", "dataplane: {interface: eth0, mode: ipvs,")
	})
	var webs []*standin.Web
	for i, s := range p.servers {
		w := standin.NewWeb(s, "www.a.com", "web"+string(rune('1'+i)))
		p.must(w.Start())
		t.Cleanup(w.Stop)
		webs = append(webs, w)
	}
	const web = "192.168.145.101:80/tcp"
	p.servable(web, 2)
	for node, why := range map[string]string{"node1": `"usurper"`, "node2": "dataplane.mode is ipvs"} {
		if s := p.status(node).Services[0]; s.Plane != "ipvs" || !strings.Contains(s.PlaneWhy, why) {
			t.Errorf("%s: %q carries it: %q, want one that says %s", node, s.Plane, s.PlaneWhy, why)
		}
	}
	p.alternates("web1", "web2")
	p.sameAsIpvsadm("node1", "-ln", "-ln --stats --exact", "-ln --thresholds", "-ln --persistent-conn", "-lnc", "-ln --timeout", "save")

	kept := p.keep()
	mine, err := kept.get()
	p.must(err)
	addr, rest := "192.168.145.200", "web2"
	if mine == "web2" {
		addr, rest = "192.168.145.201", "web1"
	}
	if out, err := p.systole("node1", "quiesce", addr); err != nil {
		t.Fatalf("quiesce: %v %s", err, out)
	}
	p.alternates(rest)
	if body, err := kept.get(); err != nil || body != mine {
		t.Errorf("the connection of a quiesced server: %q, %v", body, err)
	}
	if out := p.ipvsadm("node1", "-ln"); !strings.Contains(out, "-> "+addr+":80           Route   0      1 ") {
		t.Errorf("%s was quiesced with one connection from %s:\n%s%s", addr, kept.conn.LocalAddr(), out, p.ipvsadm("node1", "-lnc"))
	}
	p.sameAsIpvsadm("node1", "-ln")
	if out, err := p.systole("node1", "resume", addr); err != nil {
		t.Fatalf("resume: %v %s", err, out)
	}
	p.alternates("web1", "web2")

	webs[0].Stop()
	p.wait("web1 has left", 5*time.Second, func() bool {
		s := p.status("node1")
		return s != nil && serving(s, web) == 1
	})
	p.alternates("web2")
	p.sameAsIpvsadm("node1", "-ln")
	p.must(webs[0].Start())
	p.servable(web, 2)
	p.alternates("web1", "web2")

	d := p.daemons["node1"]
	p.must(d.proc.Signal(syscall.SIGTERM))
	p.wait("node1 has stopped", 5*time.Second, func() bool {
		select {
		case <-d.proc.Done():
			return true
		default:
			return false
		}
	})
	if err := d.proc.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if out := p.ipvsadm("node1", "-S", "-n"); out != "" {
		t.Errorf("a clean stop left\n%s", out)
	}
	p.active("node2")
	p.alternates("web1", "web2")
	p.sameAsIpvsadm("node2", "-ln")
}

// alternates asks the service ten times, each time by a new connection: the
// answers are those in turn.
func (p *pair) alternates(want ...string) {
	p.t.Helper()
	var got []string
	for range 10 {
		body, err := probe.Get(p.client, probe.Request{
			Target: netip.AddrPortFrom(vip, 80), Host: "www.a.com", Path: "/", Timeout: 2 * time.Second * slow,
		})
		p.must(err)
		got = append(got, body)
	}
	seen := map[string]int{}
	for i, body := range got {
		seen[body]++
		if i >= len(want) && body != got[i-len(want)] {
			p.t.Fatalf("answers of %q, want %q in turn", got, want)
		}
	}
	for _, w := range want {
		if seen[w] != 10/len(want) {
			p.t.Fatalf("answers of %q, want %q in turn", got, want)
		}
	}
}

func (p *pair) ipvsadm(node string, args ...string) string {
	p.t.Helper()
	out, err := p.run(p.daemons[node].host, append([]string{"ipvsadm"}, args...)...)
	if err != nil {
		p.t.Fatalf("ipvsadm %q: %v %s", args, err, out)
	}
	return out
}

// sameAsIpvsadm compares what the director prints of its table with what
// ipvsadm prints of the kernel's, byte for byte. Connections and counters
// change: until both are of one moment they are read again.
func (p *pair) sameAsIpvsadm(node string, views ...string) {
	p.t.Helper()
	other := map[string]string{"save": "-S -n", "-ln --timeout": "-l --timeout"}
	for _, view := range views {
		theirs := cmp.Or(other[view], view)
		ipvsadm := func() string { return p.ipvsadm(node, strings.Fields(theirs)...) }
		var before, ours, after string
		for end := time.Now().Add(3 * time.Second * slow); ; {
			before = ipvsadm()
			var err error
			if ours, err = p.ipvs(node, strings.Fields(view)...); err != nil {
				p.t.Fatalf("systole ipvs %s: %v %s", view, err, ours)
			}
			if after = ipvsadm(); between(before, ours, after) || time.Now().After(end) {
				break
			}
		}
		if !between(before, ours, after) {
			p.t.Errorf("%s: systole ipvs %s:\n%sbetween ipvsadm %s:\n%sand\n%s", node, view, ours, theirs, before, after)
		}
		if view == "-ln" && !strings.Contains(ours, "TCP  192.168.145.101:80 rr\n") {
			p.t.Errorf("%s: no service in\n%s", node, ours)
		}
	}
}

// expiry is the time that is left to a connection in -lnc.
var expiry = regexp.MustCompile(`(?m)^(?:TCP|UDP) (\d+):(\d\d) `)

// between: ours was printed between the two others. All is the same but the times
// that run out: a program takes longer to print them than they stay as they are,
// on a slow machine.
func between(before, ours, after string) bool {
	var left [3][]int
	var text [3]string
	for i, s := range []string{before, ours, after} {
		for _, m := range expiry.FindAllStringSubmatch(s, -1) {
			minutes, _ := strconv.Atoi(m[1])
			seconds, _ := strconv.Atoi(m[2])
			left[i] = append(left[i], 60*minutes+seconds)
		}
		text[i] = expiry.ReplaceAllString(s, "")
	}
	if text[0] != text[1] || text[1] != text[2] {
		return false
	}
	for i, s := range left[1] {
		if s > left[0][i] || s < left[2][i] {
			return false
		}
	}
	return true
}

// TestBetween: what a check allows must not be everything.
func TestBetween(t *testing.T) {
	const line = "IPVS connection entries\nTCP 01:%02d  FIN_WAIT    192.168.145.150:%d 192.168.145.101:80 192.168.145.200:80\n"
	at := func(second, port int) string { return fmt.Sprintf(line, second, port) }
	for _, c := range []struct {
		before, ours, after string
		want                bool
	}{
		{at(9, 1), at(9, 1), at(9, 1), true},
		{at(9, 1), at(8, 1), at(7, 1), true},
		{at(9, 1), at(10, 1), at(9, 1), false},
		{at(9, 1), at(8, 1), at(9, 1), false},
		{at(9, 1), at(9, 2), at(9, 1), false},
		{at(9, 1), at(9, 1), at(9, 1) + "x", false},
		{"", at(9, 1), "", false},
	} {
		if got := between(c.before, c.ours, c.after); got != c.want {
			t.Errorf("%q between %q and %q: %v", c.ours, c.before, c.after, got)
		}
	}
}
