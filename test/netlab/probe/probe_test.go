package probe_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"systole/test/netlab"
	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

const ms = time.Millisecond

// small is a client and two hosts that both could own the address.
type small struct {
	client, one, two *netlab.Host
}

var vip = netip.MustParseAddr("10.9.0.101")

func newSmall(t *testing.T, name string) small {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SYSTOLE_CI") == "1" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("network namespaces need root")
	}
	lab, err := netlab.New(fmt.Sprintf("nlp-%s-%d", name, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	var hosts []*netlab.Host
	for i, n := range []string{"client", "one", "two"} {
		addr := netip.AddrFrom4([4]byte{10, 9, 0, byte(1 + i)})
		h, err := lab.AddHost(n, netip.PrefixFrom(addr, 24))
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	for _, h := range hosts[1:] {
		// They answer from the address themselves; who asks for the client's
		// MAC in its name would tell the client about it.
		if err := h.SetSysctl("net.ipv4.conf.all.arp_announce", "2"); err != nil {
			t.Fatal(err)
		}
		d, err := standin.StartDNS(h, "www.a.com", vip)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Stop)
	}
	return small{hosts[0], hosts[1], hosts[2]}
}

// own gives a host the address, or takes it away.
func own(t *testing.T, h *netlab.Host, yes bool) {
	t.Helper()
	nic, err := h.Netlink().LinkByName(netlab.NIC)
	if err != nil {
		t.Fatal(err)
	}
	if yes {
		err = h.Netlink().AddrAdd(nic, hostAddr(vip))
	} else {
		err = h.Netlink().AddrDel(nic, hostAddr(vip))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestUDPSeesTheGap(t *testing.T) {
	s := newSmall(t, "udp")
	own(t, s.one, true)
	u, err := probe.StartUDP(probe.UDPConfig{Host: s.client, Target: netip.AddrPortFrom(vip, 53), Name: "www.a.com"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := u.Served(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	const dark = 60 * ms
	cut := time.Now()
	if err := s.one.Cut(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(dark)
	if err := s.one.Plug(); err != nil {
		t.Fatal(err)
	}
	if err := u.Served(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	back := time.Since(cut)
	res := u.Stop()
	if g := res.Gap().Length(); g < dark || g > back+10*ms {
		t.Errorf("gap %v, the service was away for %v to %v", g, dark, back)
	}
	if res.Lost() == 0 || res.Lost() == len(res.Shots) {
		t.Errorf("%d of %d questions lost", res.Lost(), len(res.Shots))
	}
}

func TestServedTellsWhenNobodyIsThere(t *testing.T) {
	s := newSmall(t, "none")
	u, err := probe.StartUDP(probe.UDPConfig{Host: s.client, Target: netip.AddrPortFrom(vip, 53), Name: "www.a.com", Interval: 10 * ms})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
	defer cancel()
	if err := u.Served(ctx, time.Now()); err == nil {
		t.Error("an address nobody has was served")
	}
	if res := u.Stop(); res.Lost() != len(res.Shots) || len(res.Shots) < 2 {
		t.Errorf("%d of %d lost", res.Lost(), len(res.Shots))
	}
}

func TestOwnership(t *testing.T) {
	s := newSmall(t, "own")
	watch := func(t *testing.T) probe.Owners {
		t.Helper()
		o, err := probe.StartOwnership(probe.OwnershipConfig{
			Host: s.client, VIP: vip, Port: 53, Name: "www.a.com",
			Directors: []probe.Director{{Name: "one", MAC: s.one.MAC}, {Name: "two", MAC: s.two.MAC}},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * ms)
		return o.Stop()
	}
	r := watch(t)
	if r.Nobody != r.Ticks || r.Ticks < 10 {
		t.Errorf("no owner: %+v", r)
	}
	own(t, s.one, true)
	if r = watch(t); r.Two != 0 || r.ARP["two"] != 0 || r.Forward["two"] != 0 || r.ARP["one"] < r.Ticks/2 || r.Forward["one"] < r.Ticks/2 {
		t.Errorf("one owner: %+v", r)
	}
	own(t, s.two, true)
	if r = watch(t); r.TwoARP < r.Ticks/2 || r.TwoForward < r.Ticks/2 || r.First == probe.Never {
		t.Errorf("two owners: %+v", r)
	}
	own(t, s.one, false)
	if r = watch(t); r.Two != 0 || r.ARP["one"] != 0 || r.ARP["two"] < r.Ticks/2 {
		t.Errorf("the other owner: %+v", r)
	}
	// The client's kernel must have learnt nothing from all this.
	neighbours, err := s.client.Netlink().NeighList(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range neighbours {
		if n.IP.Equal(vip.AsSlice()) {
			t.Errorf("the probe put %s into the client's ARP cache", n.HardwareAddr)
		}
	}
	own(t, s.client, true)
	if r = watch(t); len(r.Strangers) != 0 {
		t.Errorf("the asker's own host is no stranger on the wire: %+v", r)
	}
}

func TestHTTPAndKept(t *testing.T) {
	s := newSmall(t, "http")
	w := standin.NewWeb(s.one, "www.a.com", "web1")
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	req := probe.Request{Target: netip.AddrPortFrom(s.one.Addr.Addr(), 80), Host: "www.a.com", Path: "/", Timeout: time.Second}

	if body, err := probe.Get(s.client, req); err != nil || body != "web1" {
		t.Fatalf("Get: %q, %v", body, err)
	}
	check := req
	check.Path = standin.CheckPath
	if body, err := probe.Get(s.client, check); err != nil || body != "ok" {
		t.Errorf("the check page: %q, %v", body, err)
	}
	check.Host = "www.b.com"
	if body, err := probe.Get(s.client, check); err == nil {
		t.Errorf("the check page of another virtual host: %q", body)
	}

	k, err := probe.StartKept(t.Context(), s.client, req, 3)
	if err != nil {
		t.Fatal(err)
	}
	h := probe.StartHTTP(s.client, req, 2)
	deadline := time.Now().Add(5 * time.Second)
	for before := w.Requests(); w.Requests() < before+50; time.Sleep(ms) {
		if time.Now().After(deadline) {
			t.Fatal("no requests arrive")
		}
	}
	good := h.Stop()
	if good.Failed != 0 || good.Answers["web1"] != good.Requests || good.Requests < 10 {
		t.Errorf("while it runs: %+v", good)
	}

	h = probe.StartHTTP(s.client, req, 2)
	w.Stop()
	for deadline = time.Now().Add(5 * time.Second); k.Broken() < 3; time.Sleep(ms) {
		if time.Now().After(deadline) {
			t.Fatalf("a server stopped, %d of 3 connections to it are broken", k.Broken())
		}
	}
	if r := h.Stop(); r.Failed == 0 || r.First == nil {
		t.Errorf("while it is stopped: %+v", r)
	}
	if r := k.Stop(); r.Broken != 3 || r.First == nil {
		t.Errorf("kept connections to a stopped server: %+v", r)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	if body, err := probe.Get(s.client, req); err != nil || body != "web1" {
		t.Errorf("after the restart: %q, %v", body, err)
	}
}
