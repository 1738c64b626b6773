package hb

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

// FuzzReceive feeds a core messages of node b made of any text: correctly
// signed, as a peer with the key but out of its mind could send them. Each line
// is "delay in ms, type, name=value ..."; the common fields are added unless
// given; type "!" is a notice of that kind. Nothing panics, every packet sent can be read, time moves on, and
// memory stays within its limits.
func FuzzReceive(f *testing.F) {
	f.Add("0 status seq=1 st=init dt=1388\n0 status seq=2 st=up dt=1388 protocol=1\n500 repnodes seq=3 nodelist=a")
	f.Add("0 status seq=1 st=up dt=1388 protocol=1\n10 addnode seq=2 nodelist=c d\n9000 delnode seq=3 nodelist=c\n9001 delnode seq=4 nodelist=a b")
	f.Add("0 status seq=1 st=up dt=1 protocol=1\n10 status seq=2 st=active dt=ffffffff protocol=1\n9000 reqnodes seq=3")
	f.Add("0 resource seq=9\n1 resource seq=5\n300 NS_nak_rexmit firstseq=7 dest=a\n0 resource seq=ffffffffffffffff\n1 resource seq=1")
	f.Add("0 status seq=1 st=up protocol=1\n0 NS_rexmit dest=a firstseq=1 lastseq=18446744073709551615\n60000 NS_ackmsg dest=a ackseq=3")
	f.Add("0 status seq=100 st=up protocol=1\n0 status seq=fa st=up protocol=1\n0 x seq=3 hg=4\n0 x seq=f9 hg=4\n0 x hg=3 seq=4\n0 x hg=ffffffffffffffff seq=1")
	f.Add("0 status src=a seq=1\n0 status src=B seq=1\n0 status ts=0 seq=1\n0 status hg= seq=1\n0 dest=b seq=1")
	const life = "0 status seq=1 st=up dt=1388 protocol=1 systole=1 ka=3e8 ends=1\n0 repnodes seq=2 nodelist=a\n0 ! kind=1\n"
	f.Add(life + "0 NS_probe dest=a n=1\n400 NS_probe dest=a n=ffffffffffffffff late=1\n0 NS_alive dest=a n=0\n3000 status seq=3 st=up ka=1 systole=1 dt=3")
	f.Add(life + "100 ! kind=2\n0 ! kind=2\n900 ! kind=3\n0 ! kind=4\n0 ! kind=5\n0 ! kind=6\n0 ! kind=7\n9000 status seq=3 systole=1 ka=0")
	f.Fuzz(func(t *testing.T, text string) { fuzzReceive(t, text, testKeys) })
}

// FuzzReceiveSealed is FuzzReceive with method sha256: the fields that prove
// freshness are given like others (nonce, seen and, if it is "us", our nonce).
func FuzzReceiveSealed(f *testing.F) {
	f.Add("0 status seq=1 st=init dt=1388 nonce=12345678 seen=us\n0 status seq=2 st=up dt=1388 protocol=1 nonce=12345678 seen=us\n500 resource seq=3 nonce=12345678 seen=us")
	f.Add("0 status seq=9 st=up dt=1388 protocol=1 nonce=12345678 seen=us\n0 x seq=5 nonce=12345678 seen=us\n1 x seq=5 nonce=12345678 seen=us\n0 x seq=2 nonce=1 seen=us")
	f.Add("0 status seq=9 st=up protocol=1 nonce=12345678 seen=us\n0 NS_ackmsg dest=a ackseq=2 nscount=1 nonce=12345678 seen=us\n0 NS_ackmsg dest=a ackseq=3 nscount=ffffffffffffffff nonce=12345678 seen=us\n0 NS_rexmit dest=a firstseq=1 lastseq=3 nscount=2 nonce=12345678 seen=us")
	f.Add("0 status seq=9 st=up protocol=1 nonce=87654321 hg=9 seen=x\n0 status seq=1 st=up nonce=12345678 seen=us\n0 status seq=9 hg=a nonce=abcdefgh seen=us")
	f.Fuzz(func(t *testing.T, text string) { fuzzReceive(t, text, sealedKeys) })
}

func fuzzReceive(t *testing.T, text string, keys wire.Keys) {
	cfg := testConfig()
	cfg.Ordered, cfg.Keys, cfg.Nonce = true, keys, [8]byte([]byte("ournonce"))
	c := newCore(t, cfg)
	now := testTime
	b := nodeB(t)
	var events int
	look := func() {
		out := c.Drain()
		events += len(out.Events)
		for _, p := range out.Packets {
			m, _, err := wire.Decode(p.Data, keys)
			if err != nil {
				t.Fatalf("sent what cannot be read: %v", err)
			}
			if _, err := parse(m); err != nil {
				t.Fatalf("sent what is no message: %v", err)
			}
		}
		for _, p := range c.peers {
			if len(p.win.missing) >= historySize {
				t.Fatalf("%d missing", len(p.win.missing))
			}
			if len(p.order.held) >= 2*historySize {
				t.Fatalf("%d messages held", len(p.order.held))
			}
		}
		if len(c.limits) > 100 {
			t.Fatalf("%d report limits", len(c.limits))
		}
	}
	for n, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if n == 100 || len(words) < 2 {
			break
		}
		delay, _ := time.ParseDuration(words[0] + "ms")
		end := now.Add(max(0, min(delay, time.Minute)))
		for ticks := 0; !c.Deadline().After(end); ticks++ {
			if now = c.Deadline(); now.Before(testTime) || ticks > 100_000 {
				t.Fatalf("time does not move on: %v", now)
			}
			c.Tick(now)
			if !c.Deadline().After(now) {
				t.Fatalf("still due after Tick at %v", now.Sub(testTime))
			}
			look()
		}
		now = end
		if words[1] == "!" {
			kind, _ := strconv.ParseUint(strings.TrimPrefix(strings.Join(words[2:], ""), "kind="), 10, 8)
			c.Notice(now, Notice{Node: "b", Medium: "eth0", Kind: NoticeKind(kind)})
			look()
			continue
		}
		m := wire.New(words[1], "src", b.name, "hg", "3", "ts", "1")
		for _, w := range words[2:] {
			switch k, v, _ := strings.Cut(w, "="); k {
			case "nonce":
				m.SetBinary(k, []byte(v))
			case "seen":
				m.SetBinary(k, []byte(strings.Replace(v, "us", "ournonce", 1)))
			default:
				m.Set(k, v)
			}
		}
		m.SetBinary("srcuuid", b.uuid[:])
		p, err := wire.Encode(nil, m, wire.Netstring, keys)
		if err != nil {
			continue
		}
		c.Receive(now, "eth0", p)
		look()
		if n%8 == 0 {
			c.Submit(now, wire.New("resource"))
		}
		c.Snapshot(now)
	}
	// Nothing but the missing numbers of one node can be reported as lost.
	if events > 10_000 {
		t.Fatalf("%d events", events)
	}
}
