package standin_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"systole/test/netlab"
	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

func newPair(t *testing.T) (client, server *netlab.Host) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SYSTOLE_CI") == "1" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("network namespaces need root")
	}
	lab, err := netlab.New(fmt.Sprintf("nls-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	hosts := make([]*netlab.Host, 2)
	for i, name := range []string{"client", "server"} {
		if hosts[i], err = lab.AddHost(name, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}), 24)); err != nil {
			t.Fatal(err)
		}
	}
	return hosts[0], hosts[1]
}

func TestDNS(t *testing.T) {
	client, server := newPair(t)
	want := netip.MustParseAddr("10.9.0.101")
	d, err := standin.StartDNS(server, "www.a.com", want)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop()
	ask := func(network, name string) *dns.Msg {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		c, err := client.DialContext(ctx, network, "10.9.0.2:53")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		conn := &dns.Conn{Conn: c}
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		r, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, network := range []string{"udp4", "tcp4", "tcp4"} {
		r := ask(network, "WWW.a.com.")
		if len(r.Answer) != 1 || r.Answer[0].(*dns.A).A.String() != want.String() {
			t.Errorf("%s: %v", network, r)
		}
	}
	if r := ask("udp4", "www.b.com."); r.Rcode != dns.RcodeNameError || len(r.Answer) != 0 {
		t.Errorf("another name: %v", r)
	}
	if udp, tcp := d.Asked(); udp != 2 || tcp != 2 {
		t.Errorf("asked %d times over udp, %d over tcp; want 2 and 2", udp, tcp)
	}
}

func TestWebStopsAndStarts(t *testing.T) {
	client, server := newPair(t)
	w := standin.NewWeb(server, "www.a.com", "web1")
	req := probe.Request{Target: netip.MustParseAddrPort("10.9.0.2:80"), Host: "www.a.com", Path: "/", Timeout: 2 * time.Second}
	for range 2 {
		for range 2 { // the second does nothing
			if err := w.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if body, err := probe.Get(client, req); err != nil || body != "web1" {
			t.Errorf("while it runs: %q, %v", body, err)
		}
		w.Stop()
		w.Stop()
		if _, err := probe.Get(client, req); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("while it is stopped: %v, want refused", err)
		}
	}
	if w.Requests() != 2 {
		t.Errorf("%d requests counted, want 2", w.Requests())
	}
}
