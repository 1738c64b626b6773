package ipvs

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"systole/dataplane"
)

func TestDaemons(t *testing.T) {
	k := &fake{}
	p := plane(k)
	master := Daemon{Role: SyncMaster, Interface: "eth0", SyncID: 7}
	backup := Daemon{Role: SyncBackup, Interface: "eth0", Group: netip.MustParseAddr("239.0.0.1"), Port: 9000, TTL: 2, MaxLen: 1400}
	for _, d := range []Daemon{master, backup} {
		if err := p.StartDaemon(d); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := p.Daemons(); err != nil || !slices.Equal(got, []Daemon{master, backup}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := p.StartDaemon(master); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "master sync daemon: one runs already: stop it first") {
		t.Errorf("twice: %v", err)
	}
	for range 2 { // the second time there is none
		if err := p.StopDaemon(SyncMaster); err != nil {
			t.Error(err)
		}
	}
	if got, _ := p.Daemons(); !slices.Equal(got, []Daemon{backup}) {
		t.Errorf("left: %+v", got)
	}
}

func TestDaemonRefused(t *testing.T) {
	for want, d := range map[string]Daemon{
		"role-0 is neither master nor backup":                      {Interface: "eth0"},
		`"" is no interface`:                                       {Role: SyncMaster},
		`"an-interface-name" is no interface`:                      {Role: SyncMaster, Interface: "an-interface-name"},
		"group 192.168.145.1 is no multicast address":              {Role: SyncMaster, Interface: "eth0", Group: netip.MustParseAddr("192.168.145.1")},
		"group ff02::1%eth0 is no multicast address":               {Role: SyncMaster, Interface: "eth0", Group: netip.MustParseAddr("ff02::1%eth0")},
		"backup sync daemon: there is no interface eth9, or it is": {Role: SyncBackup, Interface: "eth9"},
	} {
		k := &fake{}
		if err := plane(k).StartDaemon(d); err == nil || !strings.Contains(err.Error(), want) || len(k.running) != 0 {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

func TestTimeouts(t *testing.T) {
	k := &fake{times: dataplane.Timeouts{TCP: time.Minute, TCPFin: time.Minute, UDP: time.Minute}}
	p := plane(k)
	if err := p.SetTimeouts(dataplane.Timeouts{TCP: time.Hour}); err != nil {
		t.Error(err)
	}
	if got, err := p.Timeouts(); err != nil || got != (dataplane.Timeouts{TCP: time.Hour, TCPFin: time.Minute, UDP: time.Minute}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []time.Duration{-time.Second, time.Millisecond, 25 * 24 * time.Hour} {
		if err := p.SetTimeouts(dataplane.Timeouts{UDP: bad}); err == nil || !strings.Contains(err.Error(), "whole seconds") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Foreign services keep their counters.
func TestZero(t *testing.T) {
	k := &fake{table: []Service{service(8080)}}
	p := plane(k)
	apply(t, p, snapshot(service(80, [2]int{1, 1})))
	k.seen(service(80).Key)
	k.seen(service(8080).Key)
	if err := p.Zero(); err != nil {
		t.Fatal(err)
	}
	for _, s := range k.table {
		if ours := s.Key.Port == 80; (s.Stats == Stats{}) != ours {
			t.Errorf("%s: %+v", &s, s.Stats)
		}
	}
}
