package takeover

import (
	"errors"
	"io"
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

// The captures are what two nodes of heartbeat 3.0.6 said. Here a Machine takes
// the place of one of them, hears the other one's words when they came, and
// must say what the real one said.
const (
	capturesDir = "../../hb/wire/testdata/captures/"
	legacyKey   = "IPaddr2::192.168.145.100/24/eth0"
)

type said struct {
	at  time.Time
	msg wire.Message
}

// conversation reads the messages about resources, in order.
func conversation(t *testing.T, file, key string) (out []said) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	keys := wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA1, Secret: []byte(key)}}}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		udp, ok := gopacket.NewPacket(data, r.LinkType(), gopacket.Default).Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 694 {
			continue
		}
		m, _, err := wire.Decode(udp.Payload, keys)
		if err != nil {
			t.Fatal(err)
		}
		switch typ := m.Type(); {
		case typ == "status", typ == "reqnodes", typ == "repnodes", strings.HasPrefix(typ, "NS_"):
		default:
			out = append(out, said{info.Timestamp, m})
		}
	}
}

// words is a message without what the heartbeat adds to it, its fields sorted:
// the real ipfail writes them in another order.
func words(m wire.Message) string {
	var out []string
	for _, name := range []string{"t", "st", "rsc_hold", "rtype", "isstable", "info", "ipaddr", "weown", "ok", "dest", "node", "result", "num_ping", "from_id", "to_id", "client_gen"} {
		if v, ok := m.Get(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return strings.Join(out, " ")
}

// stand is a Machine in a conversation.
type stand struct {
	t    *testing.T
	m    *Machine
	now  time.Time
	sent []string
	held []string // RELEASE and ACQUIRE
}

func (s *stand) step(in Input) {
	for _, o := range s.m.Step(s.now, in) {
		switch o := o.(type) {
		case Send:
			if o.Msg.Type() != typeSystole {
				s.sent = append(s.sent, words(o.Msg))
			}
		case Acquire:
			s.held = append(s.held, "acquire "+o.Class.String())
			defer s.step(Done{Op: o.Op})
		case Release:
			s.held = append(s.held, "release "+o.Class.String())
			defer s.step(Done{Op: o.Op})
		}
	}
}

// until lets the time pass.
func (s *stand) until(at time.Time) {
	for d := s.m.Deadline(); !d.IsZero() && d.Before(at); d = s.m.Deadline() {
		s.now = d
		s.step(Tick{})
	}
	s.now = at
}

func (s *stand) take() (sent, held []string) {
	sent, held = s.sent, s.held
	s.sent, s.held = nil, nil
	return sent, held
}

func (s *stand) want(what string, sent []string, held ...string) {
	s.t.Helper()
	gotSent, gotHeld := s.take()
	if !slices.Equal(gotSent, sent) || !slices.Equal(gotHeld, held) {
		s.t.Errorf("%s: sent %q, did %q;\nwant %q, %q", what, gotSent, gotHeld, sent, held)
	}
}

func legacyStand(t *testing.T, node, peer string, keys, peerKeys []string, at time.Time) *stand {
	m := New(Config{Node: node, Peer: peer, AutoFailback: true, Legacy: true, Keys: keys, PeerKeys: peerKeys})
	return &stand{t: t, m: m, now: at}
}

// hbnode1 stops and hbnode2 takes what it had, then hbnode1 is back and asks
// for its group: we are hbnode2.
func TestLegacyAsTheOneThatLetsGo(t *testing.T) {
	stop := conversation(t, capturesDir+"legacy-shutdown.pcap", "hbstudykey")
	back := conversation(t, capturesDir+"legacy-rejoin.pcap", "hbstudykey")
	s := legacyStand(t, "hbnode2", "hbnode1", nil, []string{"192.168.145.100"}, stop[0].at.Add(-time.Minute))
	s.step(Peer{Alive: true})
	s.step(Joined{})
	s.until(stop[0].at)
	s.want("beside the owner", nil, "acquire local") // an empty class: no group prefers us

	s.step(Message{Msg: stop[0].msg})
	s.want("shutdone", nil, "acquire foreign")
	s.now = stop[1].at
	s.step(Peer{Why: "silent"})
	s.want("its death", []string{words(stop[1].msg)})

	request, response := back[0], back[1]
	s.until(request.at.Add(-600 * time.Millisecond))
	s.step(Peer{Alive: true, Restarted: true, Joining: true})
	s.until(request.at)
	s.step(Peer{Alive: true})
	s.step(Message{Msg: request.msg})
	s.want("ip-request", []string{words(response.msg)}, "release foreign")
	if v := s.m.View(); v.Held != Local || v.Draining != Foreign || !v.Legacy {
		t.Errorf("%+v", v)
	}
	s.until(request.at.Add(time.Minute))
	s.want("later", nil)
	if v := s.m.View(); v.Draining != None || v.Word() != "local" {
		t.Errorf("%+v", v)
	}
	s.step(Standby{All})
	s.step(Message{Msg: wire.New("hb_takeover", "rsc_hold", "all")})
	s.step(Message{Msg: wire.New("ask_resources", "rsc_hold", "all", "info", "me")})
	s.want("hand-over", nil)
}

// The same from the other side: we are hbnode1.
func TestLegacyAsTheOneThatComesBack(t *testing.T) {
	back := conversation(t, capturesDir+"legacy-rejoin.pcap", "hbstudykey")
	request, response := back[0], back[1]
	s := legacyStand(t, "hbnode1", "hbnode2", []string{legacyKey}, nil, request.at.Add(-introduceWait))
	s.step(Peer{Alive: true})
	s.step(Joined{})
	s.want("joined", nil)
	s.until(request.at.Add(time.Millisecond))
	s.want("the peer is no Systole director", []string{words(request.msg)})
	s.now = response.at
	s.step(Message{Msg: response.msg})
	s.want("ip-request-resp", nil, "acquire local")
	if v := s.m.View(); v.Word() != "local" || v.OtherHeld.Inverse() != Foreign {
		t.Errorf("%+v", v)
	}
	s.step(Standby{All})
	s.step(Shutdown{})
	s.want("shutdown", []string{"t=shutdone st=dead"}, "release local")
}

// At a cold start the peer is not active yet: nobody is asked.
func TestLegacyAsTheFirst(t *testing.T) {
	s := legacyStand(t, "hbnode1", "hbnode2", []string{legacyKey}, nil, time.Unix(1, 0))
	s.step(Peer{Alive: true, Joining: true})
	s.step(Joined{})
	s.want("cold start", nil, "acquire local")
	s.step(Peer{Why: "silent"})
	s.want("death", []string{"t=stonith node=hbnode2 result=n_stnth"}, "acquire foreign")
}

// Two real nodes with ipfail: hb1 loses its ping node and gives up, then has it
// again. key "k"; made for this test.
func TestIpfailAsTheReal(t *testing.T) {
	var talk []said
	for _, s := range conversation(t, "testdata/ipfail.pcap", "k") {
		if id, _ := s.msg.Get("from_id"); id == ipfailID {
			talk = append(talk, s)
		}
	}
	var got []string
	for _, s := range talk {
		src, _ := s.msg.Get("src")
		got = append(got, src+" "+s.msg.Type())
	}
	want := []string{"hb1 hbapi-clstat", "hb2 hbapi-clstat", "hb1 num_ping_nodes", "hb2 abort_giveup",
		"hb1 num_ping_nodes", "hb2 you_are_dead", "hb1 ask_resources", "hb1 num_ping_nodes", "hb2 abort_giveup"}
	if !slices.Equal(got, want) {
		t.Fatalf("the capture: %q", got)
	}
	is := func(i int) []string { return []string{words(talk[i].msg)} }
	start := func(node, peer string) *stand {
		s := &stand{t: t, m: New(Config{Node: node, Peer: peer}), now: talk[2].at}
		s.step(Peer{Alive: true})
		s.step(Joined{})
		s.step(Message{Msg: wire.New("resource", "rsc_hold", "local", "rtype", "full", "isstable", "1")})
		s.take()
		return s
	}
	t.Run("gives up", func(t *testing.T) {
		s := start("hb1", "hb2")
		s.t = t
		s.step(Pings{1})
		s.want("the first number", append(is(0), is(2)...))
		s.step(Message{Msg: talk[3].msg})
		s.until(talk[4].at)
		s.step(Pings{0})
		s.want("the ping node is dead", is(4))
		s.until(talk[5].at)
		s.step(Message{Msg: talk[5].msg})
		s.until(s.now.Add(2*time.Second - time.Millisecond))
		s.want("for two keepalives", nil)
		s.until(s.now.Add(10 * time.Millisecond))
		s.want("then", is(6))
	})
	t.Run("takes over", func(t *testing.T) {
		s := start("hb2", "hb1")
		s.t = t
		s.step(Pings{1})
		s.take()
		s.step(Message{Msg: talk[2].msg})
		s.want("as many", is(3))
		s.step(Message{Msg: talk[4].msg})
		s.want("fewer", is(5))
		s.step(Message{Msg: talk[6].msg})
		s.want("it gives up", []string{"t=ask_resources rsc_hold=all info=other"})
		s.step(Message{Msg: talk[7].msg})
		s.want("as many again", is(8))
	})
}
