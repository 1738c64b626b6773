package control

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"systole/dataplane"
)

// What a plane was told of a service can be had again from the State, also
// from one that came over the socket; but for servers that left the table.
func TestDescribed(t *testing.T) {
	mark := dataplane.ServiceKey{VIP: netip.IPv4Unspecified(), Mark: 7}
	snap := dataplane.Snapshot{Services: []dataplane.Service{
		{
			ServiceKey: http80, Scheduler: "mh", SchedulerFlags: []string{"mh-port"},
			Persistence: dataplane.Persistence{Timeout: 5 * time.Minute, PrefixLen: 24, Engine: "sip"},
			Servers: []dataplane.RealServer{
				{Addr: server1, Weight: 3, MAC: mac1, Forward: dataplane.Masq, Port: 8080, Upper: 100, Lower: 50},
				{Addr: server2, Weight: 0, MAC: mac2, Forward: dataplane.GUE, TunnelPort: 6080},
			},
		},
		{ServiceKey: mark, Scheduler: "rr", OnePacket: true, Servers: []dataplane.RealServer{{Addr: server1, Weight: 1, Forward: dataplane.IPIP}, {Addr: server2, Weight: 1}}},
		{
			ServiceKey: dataplane.ServiceKey{VIP: http80.VIP, Port: 443, Protocol: dataplane.UDP}, Scheduler: "rr", ServerIDLength: 2,
			Servers: []dataplane.RealServer{{Addr: server1, Weight: 1, ServerID: []byte{0, 0}}, {Addr: server2, Weight: 1, ServerID: []byte{0xa, 2}}},
		},
	}}
	var s State
	for _, svc := range snap.Services {
		ss := ServiceState{Service: svc.String(), Scheduler: svc.Scheduler, Key: svc.ServiceKey}
		for _, r := range svc.Servers {
			ss.Servers = append(ss.Servers, ServerState{
				Address: r.Addr.String(), Effective: r.Weight, InTable: true, key: dataplane.ServerKey{Service: svc.ServiceKey, Server: r.Addr},
			})
		}
		ss.Servers = append(ss.Servers, ServerState{Address: sorry.String(), Fallback: true, key: dataplane.ServerKey{Service: svc.ServiceKey, Server: sorry}})
		s.Services = append(s.Services, ss)
	}
	s.describe(snap)
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	for i, want := range snap.Services {
		for j := range want.Servers {
			want.Servers[j].MAC = nil
		}
		if got, err := back.Services[i].Described(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("\n got %+v, %v\nwant %+v", got, err, want)
		}
	}
	for want, spoil := range map[string]func(*ServiceState){
		"service \"web\"":  func(s *ServiceState) { s.Service = "web" },
		"real server":      func(s *ServiceState) { s.Servers[0].Address = "server1" },
		"QUIC server ID":   func(s *ServiceState) { s.Servers[0].ServerID = "0g" },
		`forward "pigeon"`: func(s *ServiceState) { s.Servers[0].Forward = "pigeon" },
	} {
		bad := back.Services[0]
		bad.Servers = append([]ServerState(nil), bad.Servers...)
		spoil(&bad)
		if _, err := bad.Described(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ...%s...", err, want)
		}
	}
}
