package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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
		k.conn, err = net.DialTimeout("tcp", vip.String()+":80", 2*time.Second)
		return err
	}))
	p.t.Cleanup(func() { k.conn.Close() })
	k.in = bufio.NewReader(k.conn)
	return k
}

// get asks once more on the same connection.
func (k *kept) get() (string, error) {
	if err := k.conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
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
	return string(body), err
}

// TestPlanesTakeTurns goes from XDP to the kernel's IPVS and back, by command:
// every connection goes on where it began, and new ones are served. Then XDP
// loses its interface, and IPVS serves without being told.
func TestPlanesTakeTurns(t *testing.T) {
	if os.Getenv("SYSTOLE_IPVS") != "1" {
		t.Skip("needs a kernel with IPVS, and SYSTOLE_IPVS=1 to say that it has it")
	}
	p := newPair(t, 1, tutorial1)
	w := standin.NewWeb(p.servers[0], "www.a.com", "web1")
	p.must(w.Start())
	t.Cleanup(w.Stop)
	p.servable("192.168.145.101:80/tcp", 1)
	var open []*kept
	all := func(when string) {
		t.Helper()
		open = append(open, p.keep())
		for i, k := range open {
			if body, err := k.get(); err != nil || body != "web1" {
				t.Errorf("%s: connection %d: %q, %v", when, i+1, body, err)
			}
		}
	}
	all("xdp")
	for range 3 {
		for _, plane := range []string{"ipvs", "auto"} {
			if out, err := p.systole("node1", "plane", plane); err != nil {
				t.Fatalf("plane %s: %v %s", plane, err, out)
			}
			want := map[string]string{"ipvs": "ipvs", "auto": "xdp"}[plane]
			if s := p.status("node1"); s.Services[0].Plane != want || s.PlaneChoice != plane {
				t.Errorf("plane %s: %s carries it: %s", plane, s.Services[0].Plane, s.Services[0].PlaneWhy)
			}
			all(plane)
		}
	}
	leave := p.usurp("node1")
	p.wait("ipvs carries on", 5*time.Second, func() bool {
		s := p.status("node1")
		return s != nil && s.Services[0].Plane == "ipvs"
	})
	if body, err := probe.Get(p.client, p.request()); err != nil || body != "web1" {
		t.Errorf("without xdp: %q, %v", body, err)
	}
	leave()
	p.wait("xdp carries it again", 5*time.Second, func() bool {
		s := p.status("node1")
		return s != nil && s.Services[0].Plane == "xdp"
	})
}
