package hb

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"systole/hb/wire"
)

// The captures are traffic between two nodes of heartbeat 3.0.6; see the README
// beside them. Here a core takes the place of one node and hears what the other
// one said. What it concludes must be what the real node wrote into its log.

var captureKeys = wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA1, Secret: []byte("hbstudykey")}}}

type captured struct {
	at   time.Time
	data []byte
	m    wire.Message
	src  string
}

func capture(t *testing.T, name string) (packets []captured) {
	t.Helper()
	f, err := os.Open("wire/testdata/captures/" + name + ".pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets
		}
		if err != nil {
			t.Fatal(err)
		}
		udp, ok := gopacket.NewPacket(data, r.LinkType(), gopacket.Default).Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 694 {
			continue
		}
		m, _, err := wire.Decode(udp.Payload, captureKeys)
		if err != nil {
			t.Fatal(err)
		}
		src, _ := m.Get("src")
		packets = append(packets, captured{info.Timestamp, udp.Payload, m, src})
	}
}

// replay runs a core named node over the packets of the other one, from the
// time of the first packet of either to rest after the last.
type replay struct {
	t     *testing.T
	c     *Core
	start time.Time
	log   []string
	sent  []wire.Message
	lost  int // Lost events
}

func newReplay(t *testing.T, node string, first []captured) *replay {
	t.Helper()
	cfg := Config{
		Node: node, Nodes: []string{"hbnode1", "hbnode2"}, Generation: 1,
		Keepalive: time.Second, Deadtime: 3 * time.Second, Initdead: 5 * time.Second,
		Format: wire.Both, Keys: captureKeys, Media: []string{"eth0"},
	}
	for _, p := range first {
		if uuid, ok := p.m.GetBinary("srcuuid"); ok && p.src == node {
			copy(cfg.UUID[:], uuid)
		}
	}
	c, err := New(cfg, first[0].at, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	r := &replay{t: t, c: c, start: first[0].at}
	r.drain(first[0].at)
	return r
}

func (r *replay) drain(now time.Time) {
	out := r.c.Drain()
	for _, p := range out.Packets {
		m, _, err := wire.Decode(p.Data, captureKeys)
		if err != nil {
			r.t.Fatal(err)
		}
		r.sent = append(r.sent, m)
	}
	for _, e := range out.Events {
		switch e := e.(type) {
		case NodeChanged:
			s := fmt.Sprintf("%s %s", e.Node, e.To)
			if e.Restarted {
				s = e.Node + " restart, " + s
			}
			r.log = append(r.log, s)
		case LinkChanged:
			r.log = append(r.log, fmt.Sprintf("link %s:%s %v", e.Node, e.Medium, e.Up))
		case Joined:
			r.log = append(r.log, "joined")
		case Lost:
			r.lost++
		case Stalled:
			r.t.Errorf("%v: %v", now.Sub(r.start), e)
		case Report:
			if e.Level >= Error {
				r.t.Errorf("%v: %v", now.Sub(r.start), e)
			}
		}
	}
}

func (r *replay) until(end time.Time) {
	for d := r.c.Deadline(); !d.After(end); d = r.c.Deadline() {
		r.c.Tick(d)
		r.drain(d)
	}
}

func (r *replay) feed(packets []captured) {
	for _, p := range packets {
		if p.src == r.c.cfg.Node {
			continue
		}
		r.until(p.at)
		r.c.Receive(p.at, "eth0", p.data)
		r.drain(p.at)
	}
}

func (r *replay) expect(want ...string) {
	r.t.Helper()
	if !slices.Equal(r.log, want) {
		r.t.Errorf("%s concludes\n  %s\nthe real one did\n  %s", r.c.cfg.Node, strings.Join(r.log, "\n  "), strings.Join(want, "\n  "))
	}
	if r.lost != 0 {
		r.t.Errorf("%s: %d losses reported", r.c.cfg.Node, r.lost)
	}
	r.log = nil
}

// TestCaptureStartup: the logs of both nodes say "Link up", "status up",
// "Comm_now_up" (joined here) and "status active", the last two in an order
// that depends on who answers first.
func TestCaptureStartup(t *testing.T) {
	for _, test := range []struct {
		capture  string
		one, two []string
	}{
		{
			"failback-on-startup",
			[]string{"link hbnode2:eth0 true", "hbnode2 up", "joined", "hbnode2 active"},
			[]string{"link hbnode1:eth0 true", "hbnode1 up", "hbnode1 active", "joined"},
		},
		{
			"netstring-startup",
			[]string{"link hbnode2:eth0 true", "hbnode2 up", "joined", "hbnode2 active"},
			[]string{"link hbnode1:eth0 true", "hbnode1 up", "joined", "hbnode1 active"},
		},
	} {
		packets := capture(t, test.capture)
		one := newReplay(t, "hbnode1", packets)
		one.feed(packets)
		one.expect(test.one...)
		// The second node starts later than the first one.
		first := slices.IndexFunc(packets, func(p captured) bool { return p.src == "hbnode2" })
		two := newReplay(t, "hbnode2", packets[first:])
		two.feed(packets[first:])
		two.expect(test.two...)
	}
}

// TestCaptureShutdown: hbnode2's log says "node hbnode1: is dead" and "Link
// hbnode1:eth0 dead" in the second 10:05:03. It polls every 250 ms; we do not.
func TestCaptureShutdown(t *testing.T) {
	packets := capture(t, "failback-off-shutdown")
	var last time.Time
	for _, p := range packets {
		if p.src == "hbnode1" && p.m.Type() == "status" {
			last = p.at
		}
	}
	r := newReplay(t, "hbnode2", packets)
	r.feed(packets)
	dead := last.Add(3 * time.Second)
	r.until(dead.Add(-1))
	r.log = nil
	r.until(dead)
	// This capture has no repnodes: with its only peer dead there is nobody left
	// to ask.
	r.expect("hbnode1 dead", "link hbnode1:eth0 false", "joined")
	real := time.Date(2026, 11, 22, 10, 5, 3, 0, time.UTC)
	if d := real.Add(time.Second).Sub(dead); d < 0 || d > 1250*time.Millisecond {
		t.Errorf("dead at %v, the real node said so at %v", dead, real)
	}
}

// TestCaptureRejoin: start, a gap of four minutes in which hbnode1 was stopped,
// and its return. hbnode2's log: is dead, restart, init, up, active.
func TestCaptureRejoin(t *testing.T) {
	startup, rejoin := capture(t, "failback-on-startup"), capture(t, "failback-on-rejoin")
	r := newReplay(t, "hbnode2", startup)
	r.feed(startup)
	r.log = nil
	r.feed(rejoin)
	r.expect("hbnode1 dead", "link hbnode1:eth0 false", "link hbnode1:eth0 true",
		"hbnode1 restart, hbnode1 init", "hbnode1 up", "hbnode1 active")
}

// TestCaptureRetransmission: hbnode2 lost 30 % of what it received, asked, and
// got it again. A core that loses the first copy of exactly these numbers asks
// for them and misses none in the end.
func TestCaptureRetransmission(t *testing.T) {
	packets := capture(t, "retransmission")
	copies := map[uint64]int{}
	for _, p := range packets {
		if seq, ok := p.m.GetUint("seq", 16); ok && p.src == "hbnode1" {
			copies[seq]++
		}
	}
	var heard []captured
	again, skipped := 0, map[uint64]bool{}
	for _, p := range packets {
		seq, ok := p.m.GetUint("seq", 16)
		if ok && p.src == "hbnode1" && copies[seq] > 1 && !skipped[seq] {
			skipped[seq] = true
			again += copies[seq] - 2 // more copies of it are duplicates
			continue
		}
		heard = append(heard, p)
	}
	r := newReplay(t, "hbnode2", packets)
	r.feed(heard)
	v, _ := r.c.Snapshot(heard[len(heard)-1].at).Peer("hbnode1")
	counters := r.c.Snapshot(r.start).Counters
	if len(skipped) < 10 || v.Missing != 0 || r.lost != 0 || counters.Duplicates != uint64(again) {
		t.Errorf("%d numbers lost at first: %d missing, %d given up, %d duplicates, want %d",
			len(skipped), v.Missing, r.lost, counters.Duplicates, again)
	}
	if counters.Requests == 0 || counters.Requests > 2*uint64(len(skipped)) {
		t.Errorf("%d requests for %d numbers", counters.Requests, len(skipped))
	}
}

// TestCaptureFields: what we send has the same fields in the same order as the
// real one.
func TestCaptureFields(t *testing.T) {
	fields := func(m wire.Message) string {
		var names []string
		for _, f := range m.Fields {
			names = append(names, f.Name)
		}
		return strings.Join(names, " ")
	}
	real := map[string]map[string]bool{}
	note := func(packets []captured) {
		for _, p := range packets {
			typ := p.m.Type()
			if real[typ] == nil {
				real[typ] = map[string]bool{}
			}
			real[typ][fields(p.m)] = true
		}
	}
	startup, loss := capture(t, "failback-on-startup"), capture(t, "retransmission")
	note(startup)
	note(loss)
	r := newReplay(t, "hbnode2", startup)
	r.c.SetLoad("0.74 0.57 0.31 1/102 26")
	r.feed(startup)
	r.c.Submit(r.c.lastCall, wire.New("starting"))
	r.c.Submit(r.c.lastCall, wire.New("resource", "rsc_hold", "none", "rtype", "full", "isstable", "0"))
	r.drain(r.c.lastCall)
	r.feed(loss[:len(loss)/2])
	var skip []captured
	for i, p := range loss[len(loss)/2:] {
		if i%3 != 0 {
			skip = append(skip, p)
		}
	}
	r.feed(skip)
	checked := map[string]bool{}
	for _, m := range r.sent[3:] { // the first ones went out before the load was set
		typ := m.Type()
		if typ == "repnodes" { // the original writes this one in more than one order
			continue
		}
		if typ == "status" { // what only Systole nodes say
			m.Del("systole")
			m.Del("ka")
		}
		if !real[typ][fields(m)] {
			t.Errorf("%s is %q, the real one %v", typ, fields(m), real[typ])
		}
		checked[typ] = true
	}
	for _, typ := range []string{"status", "reqnodes", "starting", "resource", "NS_ackmsg", "NS_rexmit"} {
		if !checked[typ] {
			t.Errorf("no %s was sent", typ)
		}
	}
}
