package ucast

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"systole/hb/media"
	"systole/hb/media/mediatest"
)

func TestInterfaceGoesAndComes(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	// To ourselves: the kernel keeps the interface for the receiving socket.
	m, err := media.Open("ucast", media.Spec{Interface: "hb0", Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got := mediatest.Listen(m)
	send := func() { m.Send([]byte("beat")) }

	for round := range 3 {
		if err := mediatest.Until(t, got, false, send); !strings.Contains(err.Error(), "hb0") {
			t.Errorf("round %d: %v", round, err)
		}
		if err := m.Send([]byte("beat")); err == nil {
			t.Errorf("round %d: sends without an interface", round)
		}
		link := mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		mediatest.Until(t, got, true, send)
		if d := time.Since(start); d > media.MaxBackoff+time.Second {
			t.Errorf("round %d: back after %v", round, d)
		}
		if round < 2 {
			if err := netlink.LinkDel(link); err != nil {
				t.Fatal(err)
			}
			continue
		}
		// Replaced so fast that no attempt fails in between.
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
		if link = mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1"); netlink.LinkSetUp(link) != nil {
			t.Fatal("cannot set the interface up")
		}
		mediatest.Until(t, got, true, func() {
			for len(got) > 0 && <-got == nil { // what came before
			}
			send()
		})
	}
}

func TestInterfaceDownAndUp(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	link := mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
	m, err := media.Open("ucast", media.Spec{Interface: "hb0", Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0"), netip.MustParseAddrPort("192.0.2.2:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got := mediatest.Listen(m)
	for range 3 {
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		mediatest.Until(t, got, true, func() {
			if err := m.Send([]byte("beat")); err != nil {
				t.Fatalf("interface is up: %v", err)
			}
		})
		for len(got) > 0 {
			<-got
		}
		if err := netlink.LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		err := m.Send([]byte("beat"))
		if err == nil || !strings.HasPrefix(err.Error(), "ucast hb0: send to 192.0.2.") {
			t.Errorf("interface is down: %v", err)
		}
	}
	m.Close()
	for err := range got {
		if err != nil {
			t.Errorf("receive: %v", err)
		}
	}
}
