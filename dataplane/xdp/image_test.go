package xdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"systole/dataplane"
)

// find looks a service up in an image as the program does.
func find(img *image, key dataplane.ServiceKey) (role uint32, first, slots uint32) {
	h := tableHash(uint64(addrWord(key.VIP)), img.VipSeed)
	v := img.Vips[(h^uint32(img.VipShift[h>>16&uint32(len(img.VipShift)-1)]))&uint32(len(img.Vips)-1)]
	if v.Addr != addrWord(key.VIP) {
		return 0, 0, 0
	}
	k := serviceKey(key)
	h = tableHash(k, img.ServiceSeed)
	s := img.Services[(h^uint32(img.ServiceShift[h>>16&uint32(len(img.ServiceShift)-1)]))&uint32(len(img.Services)-1)]
	if s.Key != k {
		return v.Role, 0, 0
	}
	return v.Role, s.FirstSlot, s.Slots
}

// full is a snapshot that uses all there is.
func full() dataplane.Snapshot {
	var s dataplane.Snapshot
	for i := range MaxVIPs {
		s.VIPs = append(s.VIPs, dataplane.VIP{Addr: netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), Role: dataplane.Role(i % 3)})
	}
	left := MaxServers
	for i := range MaxServices {
		svc := dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: s.VIPs[i%MaxVIPs].Addr, Port: uint16(1 + i/MaxVIPs), Protocol: dataplane.UDP},
			Scheduler:  "wrr",
		}
		for n := range min(5, left) {
			r := server(n + 1)
			r.Weight = []uint32{1, 3, 5, 7, 0}[n]
			svc.Servers = append(svc.Servers, r)
		}
		left -= len(svc.Servers)
		s.Services = append(s.Services, svc)
	}
	return s
}

func TestFullImage(t *testing.T) {
	s := full()
	if err := validate(s, ownMAC); err != nil {
		t.Fatal(err)
	}
	slots, err := slotTables(s)
	if err != nil {
		t.Fatal(err)
	}
	table := ids(len(image{}.ServiceShift), len(image{}.Servers))
	if err := table.assign(s); err != nil {
		t.Fatal(err)
	}
	c := newCanvas(newAging(4 * time.Millisecond))
	img := &c.image
	begin := time.Now()
	if err := compile(c, s, slots, ownMAC, idsOf(table, s), nil, newAging(4*time.Millisecond), nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("compiled in %s", time.Since(begin))
	for i, svc := range s.Services {
		role, first, n := find(img, svc.ServiceKey)
		sum := uint32(0)
		for _, r := range svc.Servers {
			sum += r.Weight
		}
		if want := s.VIPs[i%MaxVIPs].Role; role != uint32(roles[want]) || n != sum {
			t.Fatalf("%s: role %d, %d slots, want %s and %d", svc.ServiceKey, role, n, want, sum)
		}
		turns := map[uint16]uint32{}
		for _, id := range img.Slots[first : first+n] {
			turns[id]++
		}
		for _, r := range svc.Servers {
			id := table.server(table.service(svc.ServiceKey), r.Addr)
			if turns[id] != r.Weight {
				t.Fatalf("%s: server %s has %d turns, want %d", svc.ServiceKey, r.Addr, turns[id], r.Weight)
			}
			entry := img.Servers[id]
			if entry.Service != table.service(svc.ServiceKey) || net.HardwareAddr(entry.Mac[:]).String() != r.MAC.String() {
				t.Fatalf("%s: server %s is %+v", svc.ServiceKey, r.Addr, entry)
			}
		}
	}
	for _, key := range []dataplane.ServiceKey{
		{VIP: netip.MustParseAddr("10.8.0.1"), Port: 1, Protocol: dataplane.UDP},
		{VIP: s.VIPs[0].Addr, Port: 1, Protocol: dataplane.TCP},
		{VIP: s.VIPs[0].Addr, Port: 999, Protocol: dataplane.UDP},
	} {
		if _, _, n := find(img, key); n != 0 {
			t.Errorf("%s is not in the snapshot and was found", key)
		}
	}
}

func TestBadSnapshots(t *testing.T) {
	group := net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}
	for _, tt := range []struct {
		name string
		edit func(*dataplane.Snapshot)
		want string
	}{
		{"family of the servers", func(s *dataplane.Snapshot) {
			s.VIPs[0].Addr, s.Services[0].VIP = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::1")
		}, "gate forwarding keeps"},
		{"mapped address", func(s *dataplane.Snapshot) { s.VIPs[0].Addr = netip.MustParseAddr("::ffff:10.0.0.1") }, "IPv4"},
		{"unspecified address", func(s *dataplane.Snapshot) { s.VIPs[0].Addr = netip.IPv4Unspecified() }, "0.0.0.0"},
		{"multicast address", func(s *dataplane.Snapshot) { s.VIPs[0].Addr = netip.MustParseAddr("224.0.0.1") }, "224.0.0.1"},
		{"address twice", func(s *dataplane.Snapshot) { s.VIPs = append(s.VIPs, s.VIPs[0]) }, "listed twice"},
		{"role", func(s *dataplane.Snapshot) { s.VIPs[0].Role = 3 }, "role-3"},
		{"no address for a service", func(s *dataplane.Snapshot) { s.VIPs = nil }, "192.168.145.101:80/tcp: its address"},
		{"service twice", func(s *dataplane.Snapshot) { s.Services[1] = s.Services[0] }, "80/tcp is listed twice"},
		{"mark", func(s *dataplane.Snapshot) { s.Services[0].Mark = 7 }, "before the firewall"},
		{"range", func(s *dataplane.Snapshot) { s.Services[0].LastPort = 80 }, "the range of ports is empty"},
		{"range from 0", func(s *dataplane.Snapshot) { s.Services[0].Port, s.Services[0].LastPort = 0, 80 }, "the range of ports is empty"},
		{"ranges of an address", func(s *dataplane.Snapshot) {
			for i := range uint16(MaxRangesPerVIP + 1) {
				svc := s.Services[0]
				svc.Port, svc.LastPort = 1000+10*i, 1005+10*i
				s.Services = append(s.Services, svc)
			}
		}, "at most 16 services of many ports"},
		{"ranges", func(s *dataplane.Snapshot) {
			for i := range MaxRanges + 1 {
				v := dataplane.VIP{Addr: netip.AddrFrom4([4]byte{10, 9, byte(i % 900 >> 8), byte(i % 900)})}
				if i < 900 {
					s.VIPs = append(s.VIPs, v)
				}
				svc := s.Services[0]
				svc.VIP, svc.Port, svc.LastPort, svc.Servers = v.Addr, uint16(1+i), uint16(5+i), nil
				s.Services = append(s.Services, svc)
			}
		}, "at most 1024 services of many ports"},
		{"one-packet TCP", func(s *dataplane.Snapshot) { s.Services[0].OnePacket = true }, "for udp only"},
		{"one-packet persistence", func(s *dataplane.Snapshot) {
			s.Services[1].OnePacket, s.Services[1].Persistence.Timeout = true, time.Minute
		}, "cannot do both"},
		{"QUIC over TCP", func(s *dataplane.Snapshot) { s.Services[0].ServerIDLength = 4 }, "for udp only"},
		{"long server IDs", func(s *dataplane.Snapshot) { s.Services[1].ServerIDLength = 9 }, "choose 1 to 8"},
		{"short server IDs", func(s *dataplane.Snapshot) { s.Services[1].ServerIDLength = -1 }, "choose 1 to 8"},
		{"no server ID", func(s *dataplane.Snapshot) { s.Services[1].ServerIDLength = 4 }, "real server 172.16.0.1: the server ID  has 0 bytes, not 4"},
		{"server ID twice", func(s *dataplane.Snapshot) {
			svc := &s.Services[1]
			svc.ServerIDLength, svc.Servers[0].ServerID, svc.Servers[1].ServerID = 2, []byte{0xa, 1}, []byte{0xa, 1}
		}, "real servers 172.16.0.1 and 172.16.0.2 have the same server ID 0a01"},
		{"QUIC by the packet", func(s *dataplane.Snapshot) { s.Services[1].ServerIDLength, s.Services[1].OnePacket = 4, true }, "keeps no QUIC connection"},
		{"QUIC by the client", func(s *dataplane.Snapshot) {
			s.Services[1].ServerIDLength, s.Services[1].Persistence.Timeout = 4, time.Minute
		}, "cannot do both: persistence and QUIC"},
		{"flag of rr", func(s *dataplane.Snapshot) { s.Services[0].SchedulerFlags = []string{"sh-port"} }, `no flag "sh-port" of scheduler rr`},
		{"flag of another", func(s *dataplane.Snapshot) {
			s.Services[0].Scheduler, s.Services[0].SchedulerFlags = "mh", []string{"sh-port"}
		}, `no flag "sh-port" of scheduler mh`},
		{"mask", func(s *dataplane.Snapshot) {
			s.Services[0].Persistence = dataplane.Persistence{Timeout: time.Minute, PrefixLen: 33}
		}, "1 to 32 bits"},
		{"mask of IPv6", func(s *dataplane.Snapshot) {
			s.VIPs[0].Addr, s.Services[0].VIP = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::1")
			s.Services[0].Persistence = dataplane.Persistence{Timeout: time.Minute, PrefixLen: 129}
		}, "1 to 128 bits"},
		{"mask alone", func(s *dataplane.Snapshot) { s.Services[0].Persistence.PrefixLen = 24 }, "choose a time"},
		{"persistence for ever", func(s *dataplane.Snapshot) { s.Services[0].Persistence.Timeout = maxTimeout + 1 }, "choose a time"},
		{"timeout", func(s *dataplane.Snapshot) { s.Services[0].Timeouts.TCPFin = -1 }, "a timeout of -1ns"},
		{"fate", func(s *dataplane.Snapshot) { s.Services[0].Lost = 3 }, "unknown fate lost-3"},
		{"protocol", func(s *dataplane.Snapshot) { s.Services[0].Protocol = 47 }, "tcp, udp and sctp only"},
		{"weights of wlc", func(s *dataplane.Snapshot) {
			s.Services[1].Scheduler = "wlc"
			s.Services[1].Servers[0].Weight = 1 << 17
			s.Services[1].Servers[1].Weight = 3
		}, `53/udp: weights are too large: 131072 is above 65535`},
		{"unknown scheduler", func(s *dataplane.Snapshot) { s.Services[1].Scheduler = "nq" }, `no scheduler "nq", but lc, mh, rr, sh, wlc, wrr`},
		{"weights", func(s *dataplane.Snapshot) {
			s.Services[0].Scheduler = "wrr"
			s.Services[0].Servers[0].Weight = 1 << 30
		}, "too many slots"},
		{"IPv6 server", func(s *dataplane.Snapshot) { s.Services[0].Servers[0].Addr = netip.MustParseAddr("fe80::1") }, "real server fe80::1"},
		{"no server address", func(s *dataplane.Snapshot) { s.Services[0].Servers[0].Addr = netip.Addr{} }, "real server invalid IP"},
		{"server twice", func(s *dataplane.Snapshot) { s.Services[0].Servers[1] = s.Services[0].Servers[0] }, "172.16.0.1 is listed twice"},
		{"short MAC", func(s *dataplane.Snapshot) { s.Services[0].Servers[0].MAC = net.HardwareAddr{2, 1} }, "Ethernet unicast"},
		{"group MAC", func(s *dataplane.Snapshot) { s.Services[0].Servers[0].MAC = group }, "Ethernet unicast"},
		{"our MAC", func(s *dataplane.Snapshot) { s.Services[0].Servers[0].MAC = ownMAC }, "own MAC"},
		{"peer is us", func(s *dataplane.Snapshot) { s.Peers = []net.HardwareAddr{ownMAC} }, "peer 1"},
		{"peer without MAC", func(s *dataplane.Snapshot) { s.Peers = []net.HardwareAddr{serverMAC(1), nil} }, "peer 2"},
		{"peers", func(s *dataplane.Snapshot) { s.Peers = make([]net.HardwareAddr, MaxPeers+1) }, "at most 8"},
		{"addresses", func(s *dataplane.Snapshot) { s.VIPs = make([]dataplane.VIP, MaxVIPs+1) }, "at most 1024"},
		{"services", func(s *dataplane.Snapshot) { s.Services = make([]dataplane.Service, MaxServices+1) }, fmt.Sprintf("at most %d", MaxServices)},
		{"servers", func(s *dataplane.Snapshot) { *s = many(1, MaxServers+1) }, "at most 16383"},
		{"one of many servers twice", func(s *dataplane.Snapshot) {
			*s = many(1, 100)
			s.Services[0].Servers[99].Addr = s.Services[0].Servers[3].Addr
		}, "listed twice"},
		{"slots", func(s *dataplane.Snapshot) {
			for port := range uint16(20) {
				svc := s.Services[0]
				svc.Port, svc.Scheduler = 1000+port, "wrr"
				svc.Servers = []dataplane.RealServer{server(1), server(2)}
				svc.Servers[0].Weight = 16_000
				s.Services = append(s.Services, svc)
			}
		}, "at most 262144"},
	} {
		s := twoServices(2)
		tt.edit(&s)
		err := validate(s, ownMAC)
		if err == nil {
			_, err = slotTables(s)
		}
		if !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want ErrInvalid with %q", tt.name, err, tt.want)
		}
	}
	if err := validate(dataplane.Snapshot{}, ownMAC); err != nil {
		t.Errorf("an empty snapshot: %v", err)
	}
}

// One image is the same every time: what a packet meets follows from the
// snapshot and the ids alone.
func TestCompileIsDeterministic(t *testing.T) {
	s := generationSnapshot(21)
	table := ids(100, 100)
	if err := table.assign(s); err != nil {
		t.Fatal(err)
	}
	slots, err := slotTables(s)
	if err != nil {
		t.Fatal(err)
	}
	a, b := newCanvas(newAging(4*time.Millisecond)), newCanvas(newAging(4*time.Millisecond))
	*draw(b, &b.image.Slots[5]) = 9 // left over from another generation
	for _, c := range []*canvas{a, b} {
		if err := compile(c, s, slots, ownMAC, idsOf(table, s), nil, newAging(4*time.Millisecond), nil); err != nil {
			t.Fatal(err)
		}
	}
	if a.image != b.image {
		t.Error("two images of one snapshot differ")
	}
}
