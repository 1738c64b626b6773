package xdp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/flowsync"
	"systole/dataplane/planetest"
)

// persistent is twoServices with persistence of networks for web.
func persistent(n int) dataplane.Snapshot {
	s := twoServices(n)
	s.Services[0].Persistence = dataplane.Persistence{Timeout: time.Hour, PrefixLen: 24}
	return s
}

// networks is snapshot with the networks of clients in the family, too.
func (in family) networks(s dataplane.Snapshot) dataplane.Snapshot {
	s = in.snapshot(s)
	for i := range s.Services {
		if p := &s.Services[i].Persistence; p.PrefixLen > 0 && s.Services[i].VIP.Is6() {
			p.PrefixLen += 96
		}
	}
	return s
}

// A client goes to the same server with its next connection, too, when another
// director has got the templates.
func TestTemplatesGoAcross(t *testing.T) { families(t, templatesGoAcross) }

func templatesGoAcross(t *testing.T, in family) {
	const clients, servers = 30, 5
	a, onA := in.ready(t, 1024, servers)
	b, onB := in.ready(t, 1024, servers)
	apply(t, a, in.networks(persistent(servers)))
	apply(t, b, in.networks(asRole(persistent(servers), dataplane.Standby)))
	from := func(n int, host byte, port uint16, flags string) planetest.Frame {
		f := client(0, flags)
		f.From = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n), host}), port)
		return f
	}
	sweep := a.NewSweep()
	var went [clients]planetest.Outcome
	for n := range clients {
		went[n] = onA(from(n, 1, 1000, "S"))
	}
	offered, _ := sweepAll(t, sweep, flowsync.Sent)
	if i := slices.IndexFunc(offered, func(f dataplane.Flow) bool { return f.State == dataplane.FlowTemplate }); i >= 0 {
		t.Errorf("a template on probation was offered: %+v", offered[i])
	}
	for n := range clients {
		onA(from(n, 1, 1000, "A"))
	}
	offered, _ = sweepAll(t, sweep, flowsync.Sent)
	templates := 0
	for _, f := range offered {
		if f.State == dataplane.FlowTemplate {
			templates++
			if f.Client.Port() != 0 || f.Port != 0 || f.Service != in.key(web) || f.Expires < 59*time.Minute {
				t.Errorf("%+v", f)
			}
		}
	}
	if templates != clients || len(offered) != 2*clients {
		t.Fatalf("%d templates of %d flows, want %d of %d", templates, len(offered), clients, 2*clients)
	}
	if stored, _, err := b.Insert(offered); err != nil || stored != len(offered) {
		t.Fatalf("%d of %d stored, %v", stored, len(offered), err)
	}
	if got := slices.Collect(b.Flows()); len(got) != clients {
		t.Errorf("%d flows are listed, want %d: templates are none", len(got), clients)
	}
	if got := sorted(slices.Collect(b.FlowsAndTemplates())); !slices.Equal(got, sorted(offered)) {
		t.Errorf("%d flows and templates are listed, want what was inserted, %d", len(got), len(offered))
	}
	apply(t, b, in.networks(persistent(servers)))
	onB(from(200, 1, 1000, "S")) // so the turns are not in step
	for n := range clients {
		// Another one of the network, from another port.
		if got := onB(from(n, 9, 2000, "S")); got.String() != went[n].String() {
			t.Errorf("client %d: %s, want %s", n, got, went[n])
		}
	}
	// A template that a packet here has made young is not sent back and forth.
	if n, _, err := b.Insert(offered); n != len(offered) || err != nil {
		t.Errorf("%d of %d stored, %v", n, len(offered), err)
	}
}

// Templates of services that have none, or that name no network.
func TestTemplatesRefused(t *testing.T) {
	p, _ := ready(t, 1024, 2)
	apply(t, p, asRole(persistent(2), dataplane.Standby))
	good := dataplane.Flow{
		Client: netip.MustParseAddrPort("10.9.8.0:0"), Service: web, Server: serverAddr(1),
		State: dataplane.FlowTemplate, Expires: time.Minute,
	}
	port, other := good, good
	port.Client = netip.MustParseAddrPort("10.9.8.0:7")
	other.Service = dns
	for _, f := range []dataplane.Flow{port, other} {
		if n, _, err := p.Insert([]dataplane.Flow{f}); n != 0 || err != nil {
			t.Errorf("%+v: %d stored, %v", f, n, err)
		}
	}
	if n, _, err := p.Insert([]dataplane.Flow{good}); n != 1 || err != nil {
		t.Errorf("%d stored, %v", n, err)
	}
}
