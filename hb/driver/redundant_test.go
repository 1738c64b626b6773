package driver

import (
	"testing"
	"time"

	"systole/hb"
	"systole/hb/media"
	_ "systole/hb/media/bcast"
	_ "systole/hb/media/mcast"
	"systole/hb/media/mediatest"
	_ "systole/hb/media/serial"
)

// openAll opens a node's media.
func openAll(t *testing.T, bcast, mcast, serial string) []media.Medium {
	var ms []media.Medium
	for kind, spec := range map[string]media.Spec{
		"bcast": {Interface: bcast}, "mcast": {Interface: mcast}, "serial": {Device: serial, Baud: 115200},
	} {
		m, err := media.Open(kind, spec)
		if err != nil {
			t.Error(err)
			return nil
		}
		ms = append(ms, m)
	}
	return ms
}

// Two nodes with three paths of three kinds. Each path that fails is told of
// within the dead time though the others work, and so is its return; the nodes
// never take each other for dead.
func TestEveryLinkIsJudgedOnItsOwn(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	const keepalive, deadtime = 50 * time.Millisecond, 1500 * time.Millisecond
	peer := mediatest.NewNetns(t)
	for _, c := range []struct{ near, addr, far, farAddr string }{
		{"hb0", "192.0.2.1/24", "hb1", "192.0.2.2/24"}, {"lan0", "198.51.100.1/24", "lan1", "198.51.100.2/24"},
	} {
		mediatest.Cable(t, c.near, c.addr, c.far)
		mediatest.SetUp(t, c.near)
		peer.Take(t, c.far, c.farAddr)
	}
	ttyA, ttyB, unplug := mediatest.NullModem(t)
	var ms [2][]media.Medium
	ms[0] = openAll(t, "hb0", "lan0", ttyA)
	peer.Do(t, func() { ms[1] = openAll(t, "hb1", "lan1", ttyB) })
	if t.Failed() {
		t.FailNow()
	}
	var nodes [2]*running
	for i, name := range []string{"a", "b"} {
		var names []string
		for _, m := range ms[i] {
			names = append(names, m.Name())
		}
		nodes[i] = &running{result: make(chan error, 1), events: make(chan hb.Event, 100000)}
		nodes[i].run(t, Config{Core: newCore(t, name, keepalive, deadtime, names...), Media: ms[i]})
	}
	a, b := nodes[0], nodes[1]
	await[hb.Joined](t, a)
	await[hb.Joined](t, b)
	for _, p := range []struct {
		n     *running
		other string
	}{{a, "b"}, {b, "a"}} {
		end := time.Now().Add(20 * time.Second)
		for up := 0; up < len(ms[0]); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d links are up: %+v", p.other, up, p.n.View().Peers)
			}
			up = 0
			for _, v := range p.n.View().Peers {
				for _, l := range v.Links {
					if v.Name == p.other && l.Up {
						up++
					}
				}
			}
		}
		for len(p.n.events) > 0 {
			<-p.n.events
		}
	}

	// link waits until the last that n has told of the peer's link is that it is
	// up, or is not, and that n has told of nothing worse. Each link is its own:
	// on a busy machine another may be late meanwhile, tell of it, and of its
	// return at any later time.
	type end struct {
		n            *running
		node, medium string
	}
	down := make(map[end]bool)
	link := func(n *running, node, medium string, up bool) {
		t.Helper()
		start, timeout := time.Now(), time.After(20*time.Second)
		for down[end{n, node, medium}] == up {
			select {
			case e := <-n.events:
				switch e := e.(type) {
				case hb.NodeChanged:
					t.Fatalf("%v", e)
				case hb.LinkChanged:
					down[end{n, e.Node, e.Medium}] = !e.Up
					if e.Node == node && e.Medium != medium { // hearing oneself ends too
						t.Logf("meanwhile: %+v", e)
					}
				}
			case <-timeout:
				t.Fatalf("%s: not told that %s has up=%v", node, medium, up)
			}
		}
		t.Logf("%s: %s up=%v after %v", node, medium, up, time.Since(start).Round(time.Millisecond))
		if d := time.Since(start); d > deadtime+5*time.Second { // a busy machine
			t.Errorf("%s: told of after %v", medium, d)
		}
	}
	for _, cable := range []struct{ kind, near, far string }{{"bcast ", "hb0", "hb1"}, {"mcast ", "lan0", "lan1"}} {
		peer.Do(t, func() { mediatest.SetDown(t, cable.far) })
		link(a, "b", cable.kind+cable.near, false)
		link(b, "a", cable.kind+cable.far, false)
		peer.Do(t, func() { mediatest.SetUp(t, cable.far) })
		link(a, "b", cable.kind+cable.near, true)
		link(b, "a", cable.kind+cable.far, true)
	}
	unplug()
	link(a, "b", "serial "+ttyA, false)
	link(b, "a", "serial "+ttyB, false)
}
