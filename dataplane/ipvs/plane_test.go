package ipvs

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"systole/dataplane"
)

func plane(k kernel) *Plane { return newPlane(slog.New(slog.DiscardHandler), k) }

// snapshot is what a table of ours comes from.
func snapshot(services ...Service) dataplane.Snapshot {
	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Standby}}}
	for _, svc := range services {
		d := dataplane.Service{ServiceKey: svc.Key, Scheduler: svc.Scheduler}
		for _, srv := range svc.Servers {
			d.Servers = append(d.Servers, dataplane.RealServer{Addr: srv.Addr.Addr(), Weight: srv.Weight})
		}
		s.Services = append(s.Services, d)
	}
	return s
}

func apply(t interface{ Fatal(...any) }, p *Plane, s dataplane.Snapshot) dataplane.Generation {
	g, err := p.Apply(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestApply(t *testing.T) {
	k := &fake{}
	p := plane(k)
	two := service(80, [2]int{1, 1}, [2]int{2, 3})
	if g := apply(t, p, snapshot(two)); g != 1 {
		t.Errorf("generation %d, want 1", g)
	}
	if got := text(k.table); got != text([]Service{two}) {
		t.Errorf("table %s", got)
	}
	sent := k.count
	if g := apply(t, p, snapshot(two)); g != 2 || k.count != sent {
		t.Errorf("the same again: generation %d, %d commands", g, k.count-sent)
	}
	apply(t, p, snapshot(service(80, [2]int{1, 0})))
	if got := text(k.table); got != text([]Service{service(80, [2]int{1, 0})}) {
		t.Errorf("quiesced: %s", got)
	}
	apply(t, p, snapshot())
	if len(k.table) != 0 {
		t.Errorf("left: %s", text(k.table))
	}
}

func TestForeignIsLeftAlone(t *testing.T) {
	mark := Service{Key: mark(7), Scheduler: "wlc"}
	foreign := service(8080, [2]int{9, 1})
	k := &fake{table: []Service{foreign, mark}}
	before := text(k.table)
	p := plane(k)
	apply(t, p, snapshot(service(80, [2]int{1, 1})))
	apply(t, p, snapshot(service(81, [2]int{1, 1})))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := text(k.table); got != before {
		t.Errorf("\n got %s\nwant %s", got, before)
	}
	if !k.closed {
		t.Error("the kernel handle is open")
	}
	for _, l := range k.log {
		if strings.Contains(l, "8080") || strings.Contains(l, "fwmark") {
			t.Errorf("touched: %s", l)
		}
	}
}

// A configured service that exists, from before a restart or by hand, is
// taken over, servers, settings and all, and is ours from then on.
func TestTakesOverConfigured(t *testing.T) {
	old := service(80, [2]int{1, 5}, [2]int{3, 1})
	old.Scheduler, old.Flags, old.Timeout = "wlc", Persistent|hashed, 600
	old.Servers[0].Forward, old.Servers[0].Active = Masq, 12
	k := &fake{table: []Service{old}}
	p := plane(k)
	want := service(80, [2]int{1, 1}, [2]int{2, 1})
	apply(t, p, snapshot(want))
	if got := text(k.table); got != text([]Service{want}) {
		t.Errorf("\n got %s\nwant %s", got, text([]Service{want}))
	}
	for _, l := range k.log {
		if strings.Contains(l, "remove service") || strings.Contains(l, "add service") {
			t.Errorf("connections lost by: %s", l)
		}
	}
	if err := p.Close(); err != nil || len(k.table) != 0 {
		t.Errorf("Close: %v, left %s", err, text(k.table))
	}
}

var errFake = errors.New("kernel is out of sorts")

// Whichever command fails, the table is as before, and says so.
func TestApplyFails(t *testing.T) {
	foreign := service(8080, [2]int{9, 1})
	from := []Service{service(80, [2]int{1, 1}, [2]int{2, 5}), service(81, [2]int{1, 1})}
	to := []Service{service(80, [2]int{2, 1}, [2]int{3, 1}), service(82, [2]int{1, 1})}
	to[0].Scheduler = "wrr"
	for n := 1; ; n++ {
		k := &fake{table: []Service{foreign}}
		p := plane(k)
		apply(t, p, snapshot(from...))
		before := text(k.table)
		k.failAt = map[int]error{k.count + n: errFake}
		g, err := p.Apply(snapshot(to...))
		if err == nil {
			if n < 8 {
				t.Errorf("only %d commands", n-1)
			}
			break
		}
		if !errors.Is(err, errFake) || errors.Is(err, ErrHalfway) || !strings.Contains(err.Error(), "was undone") || g != 0 {
			t.Errorf("command %d: generation %d, %v", n, g, err)
		}
		if got := text(k.table); got != before {
			t.Errorf("command %d:\n got %s\nwant %s", n, got, before)
		}
		// The next one works, and counts on.
		if g := apply(t, p, snapshot(to...)); g != 2 {
			t.Errorf("command %d: then generation %d, want 2", n, g)
		}
	}
}

// The undoing fails too: the error says so, the next Apply starts from what
// is there, and what was created is still ours to remove.
func TestApplyFailsHalfway(t *testing.T) {
	k := &fake{}
	p := plane(k)
	k.failAt = map[int]error{3: errFake, 4: errFake}
	_, err := p.Apply(snapshot(service(80, [2]int{1, 1}, [2]int{2, 1})))
	if !errors.Is(err, ErrHalfway) || !errors.Is(err, errFake) {
		t.Fatalf("error %v", err)
	}
	if len(k.table) != 1 {
		t.Fatalf("table %s", text(k.table))
	}
	apply(t, p, snapshot(service(81)))
	if got := text(k.table); got != text([]Service{service(81)}) {
		t.Errorf("table %s", got)
	}
}

// Through any sequence of snapshots and failures: our table is the last one
// that succeeded, foreign services never change, and a service that could
// serve before and after could serve all the time.
func TestApplyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		foreign := service(8080, [2]int{9, 1})
		k := &fake{table: []Service{foreign}}
		p := plane(k)
		current := []Service{}
		for range rapid.IntRange(1, 6).Draw(t, "applies") {
			want := drawTable(t, "want")
			must := make(map[dataplane.ServiceKey]bool)
			for i := range current {
				for j := range want {
					if current[i].Key == want[j].Key && serves(&current[i]) && serves(&want[j]) {
						must[want[j].Key] = true
					}
				}
			}
			k.after = func(table []Service) {
				n := 0
				for i := range table {
					if must[table[i].Key] && serves(&table[i]) {
						n++
					}
				}
				if n != len(must) {
					t.Fatalf("after %q: %s", k.log[len(k.log)-1], text(table))
				}
			}
			if n := rapid.IntRange(0, 12).Draw(t, "fail at"); n > 0 {
				k.failAt = map[int]error{k.count + n: errFake}
			}
			if _, err := p.Apply(snapshot(want...)); err == nil {
				current = want
			}
			k.failAt = nil
			if got, want := text(k.table), text(append([]Service{foreign}, current...)); got != want {
				t.Fatalf("\n got %s\nwant %s", got, want)
			}
		}
	})
}

func TestStats(t *testing.T) {
	foreign := service(8080, [2]int{9, 1})
	k := &fake{table: []Service{foreign}}
	p := plane(k)
	apply(t, p, snapshot(service(80, [2]int{1, 1}, [2]int{2, 1}), service(81)))
	i := k.find(&Service{Key: service(80).Key})
	k.table[i].Servers[1].Active, k.table[i].Servers[0].Inactive = 3, 4 // the first one configured is at the head
	k.table[i].Servers[1].Persistent = 9
	key := service(80).Key
	k.seen(key)
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Services) != 2 || len(st.Servers) != 2 || st.Flows != 7 || st.FlowTableSize != 4096 {
		t.Errorf("%d services, %d servers, %d flows", len(st.Services), len(st.Servers), st.Flows)
	}
	if got := st.Services[key]; got != (dataplane.Counters{Packets: 1 << 40, Bytes: 2 << 40, Connections: 3 << 40, OutPackets: 4 << 40, OutBytes: 5 << 40}) {
		t.Errorf("service: %+v", got)
	}
	if got := st.Servers[dataplane.ServerKey{Service: key, Server: real(2)}]; got.Packets != 12 {
		t.Errorf("server: %+v", got)
	}
	if got := st.Conns[dataplane.ServerKey{Service: key, Server: real(2)}]; got != (dataplane.Conns{Active: 3, Persistent: 9}) {
		t.Errorf("connections: %+v", got)
	}
}

func TestTheRestOfPlane(t *testing.T) {
	k := &fake{table: []Service{service(8080)}}
	p := plane(k)
	if err := p.Renew(time.Second); !errors.Is(err, dataplane.ErrNoLease) {
		t.Errorf("Renew: %v", err)
	}
	if i := p.Info(); i.Name != "ipvs" || i.Lease {
		t.Errorf("Info: %+v", i)
	}
	table, err := p.Table()
	if err != nil || table.Size != 4096 || len(table.Services) != 1 {
		t.Errorf("Table: %+v, %v", table, err)
	}
	apply(t, p, snapshot(service(80), service(81)))
	k.failAt = map[int]error{k.count + 1: unix.EPERM}
	if err := p.Close(); !errors.Is(err, unix.EPERM) || len(k.table) != 2 {
		t.Errorf("Close: %v, left %s", err, text(k.table))
	}
	for range 2 {
		if err := p.Close(); err != nil || len(k.table) != 1 {
			t.Errorf("Close: %v, left %s", err, text(k.table))
		}
	}
	if _, err := p.Apply(snapshot()); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := p.Stats(); !errors.Is(err, ErrClosed) {
		t.Errorf("Stats: %v", err)
	}
	if _, err := p.Table(); !errors.Is(err, ErrClosed) {
		t.Errorf("Table: %v", err)
	}
	if err := p.StartDaemon(Daemon{Role: SyncMaster, Interface: "eth0"}); !errors.Is(err, ErrClosed) {
		t.Errorf("StartDaemon: %v", err)
	}
	for _, err := range p.Connections() {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("Connections: %v", err)
		}
	}
}
