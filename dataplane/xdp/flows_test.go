package xdp

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/planetest"
)

func TestAging(t *testing.T) {
	for _, jiffy := range []time.Duration{time.Millisecond, 10 * time.Millisecond / 3, 4 * time.Millisecond, 10 * time.Millisecond} {
		a := newAging(jiffy)
		unit := jiffy << a.shift
		if unit < ageUnit || unit >= 2*ageUnit {
			t.Errorf("jiffy %s: the unit is %s", jiffy, unit)
		}
		for state, want := range map[bpf.DirectorFlowState]time.Duration{
			bpf.DirectorFlowStateFLOW_SYN:         60 * time.Second,
			bpf.DirectorFlowStateFLOW_ESTABLISHED: 900 * time.Second,
			bpf.DirectorFlowStateFLOW_FIN:         120 * time.Second,
			bpf.DirectorFlowStateFLOW_UDP:         300 * time.Second,
		} {
			got := time.Duration(a.timeouts(dataplane.Timeouts{}, 0)[state]) * unit
			if got < want || got > want+2*unit {
				t.Errorf("jiffy %s, state %d: timeout %s, want %s", jiffy, state, got, want)
			}
		}
	}
}

// grow makes all flows older by d.
func (p *Plane) grow(d time.Duration) {
	units := uint64((d + p.unit() - 1) / p.unit())
	for i := range p.kernel.buckets() {
		for j := range ways {
			if val := p.kernel.bucket(i).entry(j).val(); flowServer(*val) != 0 {
				atomic.AddUint64(val, -units<<seenShift)
			}
		}
	}
}

// count is the census of all flows.
func (p *Plane) count(t testing.TB) census {
	t.Helper()
	now, err := p.jiffies()
	if err != nil {
		t.Fatal(err)
	}
	_, _, timeouts, err := p.named()
	if err != nil {
		t.Fatal(err)
	}
	defer p.reading.RUnlock()
	return flowTable(p.kernel.flows.elements).count(uint32(now>>p.kernel.aging.shift), timeouts, MaxServers+1)
}

func ready(t testing.TB, flows, servers int) (*Plane, func(planetest.Frame) planetest.Outcome) {
	t.Helper()
	p := loaded(t, flows)
	if _, err := p.Apply(twoServices(servers)); err != nil {
		t.Fatal(err)
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	return p, sender(t, p.Program(), ownMAC)
}

func TestTimeouts(t *testing.T) {
	udp := client(0, "")
	udp.Protocol = dataplane.UDP
	udp.To = udpVIP
	syn, ack, fin := client(0, "S"), client(0, "A"), client(0, "FA")
	for _, tt := range []struct {
		name   string
		before []planetest.Frame
		live   time.Duration // still the same flow
		old    time.Duration // a new one
		in     planetest.Frame
	}{
		{"syn", []planetest.Frame{syn}, 58 * time.Second, 63 * time.Second, syn},
		{"established", []planetest.Frame{syn, ack}, 898 * time.Second, 903 * time.Second, syn},
		{"udp", []planetest.Frame{udp}, 298 * time.Second, 303 * time.Second, udp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, on := ready(t, 1024, 2)
			for _, f := range tt.before {
				on(f)
			}
			p.grow(tt.live)
			if st, _ := p.Stats(); st.Flows != 1 {
				t.Errorf("%d flows after %s, want 1", st.Flows, tt.live)
			}
			if got := on(tt.in); got.To.String() != serverMAC(1).String() {
				t.Errorf("after %s: %s, want the same server", tt.live, got)
			}
			p.grow(tt.live) // the packet made it young again
			if got := on(tt.in); got.To.String() != serverMAC(1).String() {
				t.Errorf("after another %s: %s, want the same server", tt.live, got)
			}
			p.grow(tt.old)
			if st, _ := p.Stats(); st.Flows != 0 {
				t.Errorf("%d flows after %s, want 0", st.Flows, tt.old)
			}
			if got := on(tt.in); got.To.String() != serverMAC(2).String() {
				t.Errorf("after %s: %s, want the next server", tt.old, got)
			}
			if st, _ := p.Stats(); st.Flows != 1 {
				t.Errorf("%d flows at the end, want 1", st.Flows)
			}
		})
	}
	t.Run("fin", func(t *testing.T) {
		p, on := ready(t, 1024, 2)
		for _, f := range []planetest.Frame{syn, ack, fin} {
			on(f)
		}
		p.grow(118 * time.Second)
		if st, _ := p.Stats(); st.Flows != 1 {
			t.Errorf("%d flows after 118 s of FIN, want 1", st.Flows)
		}
		p.grow(5 * time.Second)
		if st, _ := p.Stats(); st.Flows != 0 {
			t.Errorf("%d flows after 123 s of FIN, want 0", st.Flows)
		}
	})
	t.Run("a segment revives an old flow", func(t *testing.T) {
		p, on := ready(t, 1024, 2)
		on(syn)
		on(ack)
		p.grow(time.Hour)
		if got := on(ack); got.To.String() != serverMAC(1).String() {
			t.Errorf("after an hour: %s, want the same server", got)
		}
	})
}

// Under a flood of SYNs from made-up addresses the established flows stay: the
// flood evicts itself.
func TestFloodEvictsItself(t *testing.T) {
	const flows, established, flood = 4096, 1024, 20_000
	p, on := ready(t, flows, 3)
	where := map[int]string{}
	for i := range established {
		where[i] = on(client(i, "S")).String()
		on(client(i, "A"))
	}
	for i := range flood {
		if got := on(client(1<<20+i, "S")); got.Verdict != planetest.Forwarded {
			t.Fatalf("SYN %d of the flood: %s", i, got)
		}
	}
	lost := 0
	for i := range established {
		if on(client(i, "A")).String() != where[i] {
			lost++
		}
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("of %d established flows in %d entries %d were lost to %d SYNs; evicted: %d on probation, %d others",
		established, flows, lost, flood, st.Reasons["syn_evicted"], st.Reasons["flow_evicted"])
	// A flow is evicted only if all eight ways of a SYN are established. At a
	// quarter of the table that takes bad luck of about one in 10^5 SYNs.
	if lost > 4 || uint64(lost) > st.Reasons["flow_evicted"] {
		t.Errorf("%d of %d established flows were lost, %d evictions were counted", lost, established, st.Reasons["flow_evicted"])
	}
	if st.Reasons["syn_evicted"] < flood-flows {
		t.Errorf("%d evictions on probation, want at least %d", st.Reasons["syn_evicted"], flood-flows)
	}
	if st.Flows < flows*99/100 {
		t.Errorf("%d entries in use after the flood, want nearly %d", st.Flows, flows)
	}
}

// At half load hardly a flow finds no place: the two choices work.
func TestTableFillsEvenly(t *testing.T) {
	const flows = 1 << 14
	p, on := ready(t, flows, 1)
	for i := range flows / 2 {
		on(client(i, "S"))
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("half full: %d of %d evicted another", st.Reasons["syn_evicted"], flows/2)
	if st.Reasons["syn_evicted"] > flows/2/200 {
		t.Errorf("%d of %d flows evicted another in a table half full, want below 0.5 %%", st.Reasons["syn_evicted"], flows/2)
	}
}

func TestClearFlows(t *testing.T) {
	p, on := ready(t, 1024, 4)
	for i := range 40 {
		on(client(i, "S"))
	}
	odd, all, none := new(idSet), everyID(), new(idSet)
	for i := range odd {
		odd[i] = i%2 == 1
	}
	table := &p.kernel.tables[0]
	for _, tt := range []struct {
		name            string
		service, server *idSet
		want            int64
	}{
		{"all kept", all, all, 40},
		{"half of the servers", all, odd, 20},
		{"no service", none, all, 0},
	} {
		table.clear(tt.service, tt.server)
		if got := p.count(t).total; got != tt.want {
			t.Errorf("%s: %d flows left, want %d", tt.name, got, tt.want)
		}
	}
	for i := range 40 {
		on(client(i, "S"))
	}
	if got := p.count(t).total; got != 40 {
		t.Errorf("%d flows after the entries were used again, want 40", got)
	}
}

// Who comes back after its entry was cleared is found, wherever in its buckets
// it is put then.
func TestClearedHidesNobody(t *testing.T) {
	families(t, func(t *testing.T, in family) {
		const clients = 400 // some share a bucket, but none finds both of its full
		p, on := in.ready(t, 4096, 4)
		for i := range clients {
			on(client(i, "S"))
		}
		none := new(idSet)
		for i := range p.kernel.tables {
			p.kernel.tables[i].clear(none, none)
		}
		for i := range clients {
			i = clients - 1 - i
			on(client(i, "S"))
			if got := on(client(i, "A")); got.Verdict != planetest.Forwarded {
				t.Errorf("client %d: %s", i, got)
			}
		}
	})
}

// A scrape must not make a takeover wait, however large the table.
func TestStatsHoldUpNobody(t *testing.T) {
	p := loaded(t, 1024)
	p.reading.RLock() // a reading is under way
	done := make(chan error)
	go func() {
		_, err := p.Apply(dataplane.Snapshot{})
		done <- errors.Join(err, p.Renew(time.Second))
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Apply or Renew waits for Stats")
	}
	p.reading.RUnlock()
}

// ActiveConn and InActConn as IPVS has them.
func TestActiveAndInactive(t *testing.T) {
	p, on := ready(t, 1024, 1)
	for i, flags := range []string{"S", "A", "FA"} { // opened; established; closing
		for c := range 2 - i/2 {
			on(client(c, "S"))
			if i > 0 {
				on(client(c, flags))
			}
		}
	}
	on(client(7, "S"))
	udp := client(9, "")
	udp.Protocol, udp.To = dataplane.UDP, udpVIP
	on(udp)
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var active, inactive uint64
	for _, c := range st.Conns {
		active, inactive = active+c.Active, inactive+c.Inactive
	}
	// Client 1 is established, 7 opening; 0 is closing, 9 is UDP.
	if active != 2 || inactive != 2 || st.Flows != 4 || st.FlowTableSize != 1024+512 || st.FlowTableBytes != 16*1024+32*512 {
		t.Errorf("%d active, %d inactive, %d of %d entries in %d bytes; want 2, 2, 4 of 1536 in 32768", active, inactive, st.Flows, st.FlowTableSize, st.FlowTableBytes)
	}
}

// The sweep for Stats, over a table half full.
func BenchmarkCensus(b *testing.B) {
	for _, size := range []int{1 << 20, 1 << 24} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			table := make(flowTable, size/ways)
			const now = 1000
			for i := range table {
				table[i].Way[0].Val = now<<seenShift | uint64(bpf.DirectorFlowStateFLOW_ESTABLISHED)<<stateShift | 1<<flowIDBits | uint64(1+i%16)
				table[i].Way[1].Val = now<<seenShift | uint64(bpf.DirectorFlowStateFLOW_FIN)<<stateShift | 1<<flowIDBits | uint64(1+i%16)
			}
			timeouts := new(serviceTimeouts)
			timeouts[1] = newAging(4*time.Millisecond).timeouts(dataplane.Timeouts{}, 0)
			b.SetBytes(int64(size) * 16)
			for b.Loop() {
				if c := table.count(now, timeouts, MaxServers+1); c.total != int64(size/2) {
					b.Fatalf("%d flows", c.total)
				}
			}
		})
	}
}

// While the address was a peer's, a client may have used the port of a
// connection that had ended here again. Its segments are the peer's to judge.
func TestAnEndedFlowDoesNotAnswerForANewOneOfThePeer(t *testing.T) {
	peerMAC := net.HardwareAddr{2, 0, 0, 0, 0xff, 1}
	p, on := ready(t, 1024, 2)
	s := twoServices(2)
	s.Peers, s.SecondChance = []net.HardwareAddr{peerMAC}, true
	become := func(role dataplane.Role) {
		t.Helper()
		for i := range s.VIPs {
			s.VIPs[i].Role = role
		}
		if _, err := p.Apply(s); err != nil {
			t.Fatal(err)
		}
	}
	become(dataplane.Active)
	for _, f := range []planetest.Frame{client(0, "S"), client(0, "A"), client(0, "FA"), client(1, "S"), client(1, "A")} {
		on(f)
	}
	toServer := func(f planetest.Frame) bool {
		out := on(f)
		return out.Verdict == planetest.Forwarded && out.To.String() != peerMAC.String()
	}
	if !toServer(client(0, "A")) {
		t.Fatal("the last ACK of a connection did not reach its server")
	}
	become(dataplane.Draining)
	become(dataplane.Standby)
	p.grow(2 * time.Second)
	become(dataplane.Active)
	if out := on(client(0, "A")); out.Verdict != planetest.Forwarded || out.To.String() != peerMAC.String() {
		t.Errorf("a segment of an ended connection: %s, want a second chance at the peer", out)
	}
	if !toServer(client(1, "A")) {
		t.Error("an established connection did not stay on its server")
	}
	asked := client(0, "A")
	asked.Src = peerMAC
	if !toServer(asked) {
		t.Error("the peer asked for a flow that we have")
	}
	if !toServer(client(0, "S")) || !toServer(client(0, "A")) {
		t.Error("a new connection from the same port did not get its server")
	}
}

// Which states are active is the protocol's affair.
func TestActiveByProtocol(t *testing.T) {
	n := inState{opening: 1, established: 2, other: 4}
	for p, want := range map[dataplane.Protocol]dataplane.Conns{
		dataplane.TCP:  {Active: 3, Inactive: 4},
		dataplane.SCTP: {Active: 2, Inactive: 5},
	} {
		if got := n.conns(p); got != want {
			t.Errorf("%s: %+v, want %+v", p, got, want)
		}
	}
	if got := (inState{other: 4}).conns(dataplane.UDP); got != (dataplane.Conns{Inactive: 4}) {
		t.Errorf("udp: %+v", got)
	}
}
