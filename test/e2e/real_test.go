package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"systole/test/need"
	"systole/test/netlab"
)

const tutorial = `  - virtual: 192.168.145.101:80
    check: {type: http, path: /.test.html, virtual_host: www.a.com, expect: ok, interval: 200ms, timeout: 200ms}
    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]
  - virtual: 192.168.145.101:53
    protocol: udp
    check: {type: tcp, port: 53, interval: 200ms, timeout: 200ms}
    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]
  - virtual: 192.168.145.101:53
    protocol: tcp
    check: {type: tcp, interval: 200ms, timeout: 200ms}
    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]
`

// nginx serves a page on a host, and the one that the health check asks for.
func (p *pair) nginx(h *netlab.Host, page string) {
	p.t.Helper()
	dir := filepath.Join(p.lab.Dir(), h.Name+".nginx")
	root := filepath.Join(dir, "root")
	p.must(os.MkdirAll(root, 0o755))
	p.must(os.WriteFile(filepath.Join(root, "index.html"), []byte(page+"\n"), 0o644))
	p.must(os.WriteFile(filepath.Join(root, ".test.html"), []byte("ok\n"), 0o644))
	conf := filepath.Join(dir, "nginx.conf")
	p.must(os.WriteFile(conf, []byte(fmt.Sprintf(`user root; daemon off; pid %[1]s/pid; error_log stderr;
events { worker_connections 512; }
http {
  access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen 80 default_server; return 404; }
  server { listen 80; server_name www.a.com; root %[2]s; }
}
`, dir, root)), 0o644))
	p.background(h, need.Program(p.t, "nginx"), "-c", conf)
}

// dnsmasq answers for www.a.com on a host; the second record says which one.
func (p *pair) dnsmasq(h *netlab.Host) {
	p.t.Helper()
	p.background(h, need.Program(p.t, "dnsmasq"), "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
		"--pid-file=", "--address=/www.a.com/192.168.145.101", "--txt-record=who.a.com,"+h.Name, "--local-ttl=0")
}

func TestRealClientsAndServers(t *testing.T) {
	p := newPair(t, 2, tutorial)
	for i, s := range p.servers {
		p.nginx(s, fmt.Sprintf("web%d -- real-server-%d", i+1, i+1))
		p.dnsmasq(s)
	}
	for _, svc := range []string{"80/tcp", "53/udp", "53/tcp"} {
		p.servable("192.168.145.101:"+svc, 2)
	}

	t.Run("curl: strictly in turn", func(t *testing.T) {
		curl := need.Program(t, "curl")
		var got []string
		for range 20 {
			out, err := p.run(p.client, curl, "-sS", "--max-time", "5", "-H", "Host: www.a.com", "http://192.168.145.101/")
			if err != nil {
				t.Fatalf("curl: %v\n%s", err, out)
			}
			got = append(got, strings.TrimSpace(out))
		}
		for i := range got {
			if i > 1 && got[i] != got[i-2] || i > 0 && got[i] == got[i-1] {
				t.Fatalf("not in turn:\n%s", strings.Join(got, "\n"))
			}
		}
	})

	dig := need.Program(t, "dig")
	for _, over := range []string{"+notcp", "+tcp"} {
		t.Run("dig "+over, func(t *testing.T) {
			ask := func(name, kind string) string {
				out, err := p.run(p.client, dig, "@192.168.145.101", over, "+short", "+timeout=2", "+tries=1", name, kind)
				if err != nil {
					t.Fatalf("dig %s: %v\n%s", name, err, out)
				}
				return strings.TrimSpace(out)
			}
			if got := ask("www.a.com", "A"); got != "192.168.145.101" {
				t.Errorf("www.a.com is %q", got)
			}
			who := map[string]int{}
			for range 10 {
				who[ask("who.a.com", "TXT")]++
			}
			if len(who) != 2 || who[`"server1"`] != 5 {
				t.Errorf("answered by %v, want both servers equally", who)
			}
		})
	}

	t.Run("systole ipvs prints ipvsadm's form", func(t *testing.T) {
		out, err := p.systole("node1", "ipvs", "-ln")
		if err != nil || !strings.HasPrefix(out, "IP Virtual Server version 1.2.1 (size=98304)\nProt LocalAddress:Port Scheduler Flags\n") {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{
			"TCP  192.168.145.101:80 rr\n", "UDP  192.168.145.101:53 rr\n",
			"  -> 192.168.145.200:80           Route   1      ", "  -> 192.168.145.201:53           Route   1      ",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
	})

	t.Run("metrics by curl", func(t *testing.T) {
		out, err := p.run(p.daemons["node1"].host, need.Program(t, "curl"), "-sS", "http://127.0.0.1:9101/metrics")
		if err != nil || !strings.Contains(out, `systole_role{state="active"} 1`) ||
			!strings.Contains(out, `systole_real_server_up{real_server="192.168.145.200",service="192.168.145.101:80/tcp"} 1`) {
			t.Errorf("%v\n%s", err, out)
		}
	})

	t.Run("what is not for a service passes", func(t *testing.T) {
		// A service of the operator's own on the director, as ssh would be.
		ln, err := p.daemons["node1"].host.Listen("tcp4", "0.0.0.0:22")
		p.must(err)
		defer ln.Close()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.Write([]byte("hello\n"))
				c.Close()
			}
		}()
		for _, addr := range []string{"192.168.145.10:22", "192.168.145.101:22"} {
			c, err := p.client.DialContext(t.Context(), "tcp4", addr)
			if err != nil {
				t.Errorf("%s: %v", addr, err)
				continue
			}
			b := make([]byte, 6)
			if _, err := c.Read(b); err != nil || string(b) != "hello\n" {
				t.Errorf("%s: %q, %v", addr, b, err)
			}
			c.Close()
		}
	})
}
