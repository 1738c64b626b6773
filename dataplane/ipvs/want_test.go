package ipvs

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"systole/dataplane"
)

var vip6, real6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::11")

// What IPVS has, it is told: the settings of a service and of its servers.
func TestWant(t *testing.T) {
	tcp := func(*dataplane.Service) {}
	fwmark := func(s *dataplane.Service) { s.ServiceKey, s.Servers[0].Addr = mark(7), real(1) }
	first := func(f func(*dataplane.RealServer)) func(*dataplane.Service) {
		return func(s *dataplane.Service) { f(&s.Servers[0]) }
	}
	for _, c := range []struct {
		name string
		make []func(*dataplane.Service)
		want string
	}{
		{"plain", []func(*dataplane.Service){tcp}, "-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -g -w 1"},
		{"sctp", []func(*dataplane.Service){func(s *dataplane.Service) { s.Protocol = dataplane.SCTP }},
			"-A --sctp-service 192.168.145.101:80 -s rr|-a --sctp-service 192.168.145.101:80 -r 192.168.145.11:80 -g -w 1"},
		{"flags", []func(*dataplane.Service){func(s *dataplane.Service) {
			s.Scheduler, s.SchedulerFlags = "mh", []string{"mh-port", "mh-fallback"}
		}}, "-A -t 192.168.145.101:80 -s mh -b mh-fallback,mh-port|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -g -w 1"},
		{"flags by number", []func(*dataplane.Service){func(s *dataplane.Service) {
			s.Scheduler, s.SchedulerFlags = "sh", []string{"flag-2", "flag-3"}
		}}, "-A -t 192.168.145.101:80 -s sh -b sh-port,flag-3|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -g -w 1"},
		{"persistence", []func(*dataplane.Service){func(s *dataplane.Service) {
			s.Persistence = dataplane.Persistence{Timeout: 5 * time.Minute, PrefixLen: 20}
		}}, "-A -t 192.168.145.101:80 -s rr -p 300 -M 255.255.240.0|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -g -w 1"},
		{"persistence for all", []func(*dataplane.Service){func(s *dataplane.Service) {
			s.Port, s.Persistence = 0, dataplane.Persistence{Timeout: time.Minute, PrefixLen: 32}
		}}, "-A -t 192.168.145.101:0 -s rr -p 60|-a -t 192.168.145.101:0 -r 192.168.145.11:0 -g -w 1"},
		{"engine", []func(*dataplane.Service){func(s *dataplane.Service) {
			s.Protocol, s.OnePacket, s.Persistence = dataplane.UDP, true, dataplane.Persistence{Timeout: time.Minute, Engine: "sip"}
		}}, "-A -u 192.168.145.101:80 -s rr -p 60 --pe sip -o|-a -u 192.168.145.101:80 -r 192.168.145.11:80 -g -w 1"},
		{"mark", []func(*dataplane.Service){fwmark, func(s *dataplane.Service) { s.OnePacket = true }}, "-A -f 7 -s rr -o|-a -f 7 -r 192.168.145.11:0 -g -w 1"},
		{"mark, masq", []func(*dataplane.Service){fwmark, first(func(r *dataplane.RealServer) { r.Forward, r.Port = dataplane.Masq, 8080 })},
			"-A -f 7 -s rr|-a -f 7 -r 192.168.145.11:8080 -m -w 1"},
		{"masq", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Forward = dataplane.Masq })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -m -w 1"},
		{"masq to a port", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Forward, r.Port = dataplane.Masq, 8080 })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:8080 -m -w 1"},
		{"gate to the same port", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Port = 80 })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -g -w 1"},
		{"ipip", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Forward = dataplane.IPIP })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -i -w 1 --tun-type ipip"},
		{"ipip to the other family", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Forward, r.Addr = dataplane.IPIP, real6 })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r [2001:db8::11]:80 -i -w 1 --tun-type ipip"},
		{"gue", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Forward = dataplane.GUE })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum"},
		{"gue port", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Forward, r.TunnelPort = dataplane.GUE, 9 })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -i -w 1 --tun-type gue --tun-port 9 --tun-nocsum"},
		{"weight and thresholds", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Weight, r.Upper, r.Lower = math.MaxInt32, 100, 50 })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -g -w 2147483647 -x 100 -y 50"},
		{"upper alone", []func(*dataplane.Service){first(func(r *dataplane.RealServer) { r.Upper = 100 })},
			"-A -t 192.168.145.101:80 -s rr|-a -t 192.168.145.101:80 -r 192.168.145.11:80 -g -w 1 -x 100"},
		{"IPv6", []func(*dataplane.Service){func(s *dataplane.Service) {
			s.VIP, s.Servers[0].Addr, s.Persistence = vip6, real6, dataplane.Persistence{Timeout: time.Minute, PrefixLen: 64}
		}}, "-A -t [2001:db8::1]:80 -s rr -p 60 -M 64|-a -t [2001:db8::1]:80 -r [2001:db8::11]:80 -g -w 1"},
		{"IPv6 mark", []func(*dataplane.Service){func(s *dataplane.Service) {
			s.ServiceKey, s.Servers[0].Addr = dataplane.ServiceKey{VIP: netip.IPv6Unspecified(), Mark: 9}, real6
		}}, "-A -f 9 -6 -s rr|-a -f 9 -6 -r [2001:db8::11]:0 -g -w 1"},
	} {
		s := snapshot(service(80, [2]int{1, 1}))
		s.VIPs = append(s.VIPs, dataplane.VIP{Addr: vip6})
		for _, f := range c.make {
			f(&s.Services[0])
		}
		if err := Carries(s.Services[0]); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		services, err := want(s)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var b strings.Builder
		if err := Save(&b, Table{Services: services}); err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(strings.TrimSpace(b.String()), "\n", "|"); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// Virtual addresses that make no sense are refused.
func TestRefusedAddresses(t *testing.T) {
	for want, vips := range map[string][]dataplane.VIP{
		"a virtual address that is none":                    {{}},
		"virtual address 192.168.145.101: listed twice":     {{Addr: vip}, {Addr: vip, Role: dataplane.Active}},
		"virtual address 192.168.145.101: no such role: 99": {{Addr: vip, Role: 99}},
	} {
		k := &fake{}
		_, err := plane(k).Apply(dataplane.Snapshot{VIPs: vips})
		if !errors.Is(err, dataplane.ErrInvalid) || err.Error() != "invalid snapshot: "+want || k.count != 0 {
			t.Errorf("%v, want %q; %d commands", err, want, k.count)
		}
	}
}

// What IPVS has not is refused with a reason, by Carries and by Apply, and no
// command is sent.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*dataplane.Service, *dataplane.RealServer)
		want  string
	}{
		{"no address", func(s *dataplane.Service, _ *dataplane.RealServer) { s.VIP = netip.Addr{} }, "without an address"},
		{"mapped", func(s *dataplane.Service, _ *dataplane.RealServer) { s.VIP = netip.MustParseAddr("::ffff:1.2.3.4") }, "plain IPv4 or IPv6"},
		{"unspecified", func(s *dataplane.Service, _ *dataplane.RealServer) { s.VIP = netip.IPv4Unspecified() }, "0.0.0.0 is no address"},
		{"all ports", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Port = 0 }, "with persistence only: set it, or use a fwmark"},
		{"ports", func(s *dataplane.Service, _ *dataplane.RealServer) { s.LastPort = 90 }, "use that fwmark"},
		{"mark and port", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Mark = 7 }, "neither address nor port"},
		{"protocol", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Protocol = 50 }, "tcp, udp or sctp"},
		{"no scheduler", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Scheduler = "" }, "scheduler"},
		{"long scheduler", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Scheduler = strings.Repeat("r", 16) }, "scheduler"},
		{"another's flag", func(s *dataplane.Service, _ *dataplane.RealServer) { s.SchedulerFlags = []string{"sh-port"} },
			`scheduler rr has no flag "sh-port": it has flag-1, flag-2, flag-3`},
		{"one packet", func(s *dataplane.Service, _ *dataplane.RealServer) { s.OnePacket = true }, "for udp"},
		{"timeouts", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Timeouts.TCP = time.Minute }, "the machine's (ipvsadm --set)"},
		{"lost", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Lost = dataplane.Keep }, "expire_nodest_conn"},
		{"mask alone", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Persistence.PrefixLen = 24 }, "without a timeout"},
		{"part of a second", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Persistence.Timeout = 1500 * time.Millisecond }, "whole seconds"},
		{"two months", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Persistence.Timeout = 60 * 24 * time.Hour }, "up to 2678400"},
		{"negative", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Persistence.Timeout = -time.Second }, "whole seconds"},
		{"mask", func(s *dataplane.Service, _ *dataplane.RealServer) {
			s.Persistence = dataplane.Persistence{Timeout: time.Minute, PrefixLen: 33}
		}, "has 32 bits"},
		{"engine", func(s *dataplane.Service, _ *dataplane.RealServer) {
			s.Persistence = dataplane.Persistence{Timeout: time.Minute, Engine: strings.Repeat("x", 16)}
		}, "engine"},
		{"server without address", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Addr = netip.Addr{} }, "without an address"},
		{"server with a zone", func(s *dataplane.Service, r *dataplane.RealServer) {
			s.VIP, r.Addr = vip6, netip.MustParseAddr("fe80::1%eth0")
		}, "plain IPv4 or IPv6"},
		{"family", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Addr = real6 }, "gate needs the address family"},
		{"family, masq", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Addr, r.Forward = real6, dataplane.Masq }, "masq needs the address family"},
		{"weight", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Weight = 1 << 31 }, "192.168.145.11: weight 2147483648"},
		{"thresholds", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Upper, r.Lower = 4, 5 }, "the lower threshold, 5, is above"},
		{"lower alone", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Lower = 5 }, "the lower threshold, 5, is above"},
		{"gate to a port", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Port = 8080 }, "only masq changes the port"},
		{"ipip to a port", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Port, r.Forward = 8080, dataplane.IPIP }, "only masq changes the port"},
		{"all ports to one", func(s *dataplane.Service, r *dataplane.RealServer) {
			s.Port, s.Persistence.Timeout, r.Port, r.Forward = 0, time.Minute, 80, dataplane.Masq
		}, "servers keep the client's"},
		{"tunnel port", func(_ *dataplane.Service, r *dataplane.RealServer) { r.TunnelPort, r.Forward = 6080, dataplane.IPIP }, "only gue has one"},
		{"forward", func(_ *dataplane.Service, r *dataplane.RealServer) { r.Forward = 4 }, "no such way of forwarding: 4"},
		{"server twice", func(s *dataplane.Service, _ *dataplane.RealServer) { s.Servers[1].Addr = real(1) }, "192.168.145.11: listed twice"},
	} {
		s := snapshot(service(80, [2]int{1, 1}, [2]int{2, 1}))
		c.spoil(&s.Services[0], &s.Services[0].Servers[0])
		if a := s.Services[0].VIP; a.IsValid() && a != vip {
			s.VIPs = append(s.VIPs, dataplane.VIP{Addr: a})
		}
		if err := Carries(s.Services[0]); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ...%s...", c.name, err, c.want)
		}
		k := &fake{}
		if _, err := plane(k).Apply(s); !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ...%s...", c.name, err, c.want)
		}
		if k.count != 0 {
			t.Errorf("%s: %d commands", c.name, k.count)
		}
	}
}

func TestInvalidSnapshot(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*dataplane.Snapshot)
		want  string
	}{
		"not a VIP":     {func(s *dataplane.Snapshot) { s.VIPs = nil }, "not among the virtual addresses"},
		"service twice": {func(s *dataplane.Snapshot) { s.Services = append(s.Services, s.Services[0]) }, "listed twice"},
	} {
		s := snapshot(service(80, [2]int{1, 1}))
		c.spoil(&s)
		k := &fake{}
		if _, err := plane(k).Apply(s); !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(err.Error(), c.want) || k.count != 0 {
			t.Errorf("%s: %v, %d commands", name, err, k.count)
		}
	}
}

// drawService is any service that IPVS can carry.
func drawService(t *rapid.T) dataplane.Service {
	v6 := rapid.Bool().Draw(t, "v6")
	addr := func(n int, v6 bool) netip.Addr {
		if v6 {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(n)})
		}
		return real(n)
	}
	s := dataplane.Service{
		ServiceKey: dataplane.ServiceKey{VIP: addr(99, v6), Port: rapid.Uint16().Draw(t, "port"), Protocol: rapid.SampledFrom([]dataplane.Protocol{6, 17, 132}).Draw(t, "protocol")},
		Scheduler:  rapid.SampledFrom(strings.Fields("rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos")).Draw(t, "scheduler"),
	}
	if rapid.IntRange(0, 3).Draw(t, "marked") == 0 {
		s.ServiceKey = dataplane.ServiceKey{VIP: netip.IPv4Unspecified(), Mark: rapid.Uint32Min(1).Draw(t, "mark")}
		if v6 {
			s.VIP = netip.IPv6Unspecified()
		}
	}
	s.OnePacket = (s.Protocol == dataplane.UDP || s.Mark != 0) && rapid.Bool().Draw(t, "one packet")
	if s.Port == 0 && s.Mark == 0 || rapid.Bool().Draw(t, "persistent") {
		s.Persistence = dataplane.Persistence{
			Timeout:   time.Duration(rapid.IntRange(1, 2678400).Draw(t, "timeout")) * time.Second,
			PrefixLen: rapid.IntRange(0, s.VIP.BitLen()).Draw(t, "mask"), Engine: rapid.SampledFrom([]string{"", "sip"}).Draw(t, "engine"),
		}
	}
	s.SchedulerFlags = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"flag-1", "flag-2", "flag-3"}), 0, 3, rapid.ID[string]).Draw(t, "flags")
	for n := range rapid.IntRange(0, 4).Draw(t, "servers") {
		r := dataplane.RealServer{Weight: rapid.Uint32Max(maxWeight).Draw(t, "weight"), Forward: dataplane.Forward(rapid.IntRange(0, 3).Draw(t, "forward"))}
		tunnel := r.Forward == dataplane.IPIP || r.Forward == dataplane.GUE
		r.Addr = addr(n+1, v6 != (tunnel && rapid.Bool().Draw(t, "other family")))
		r.Upper = rapid.Uint32().Draw(t, "upper")
		r.Lower = rapid.Uint32Max(r.Upper).Draw(t, "lower")
		if r.Forward == dataplane.GUE {
			r.TunnelPort = rapid.Uint16().Draw(t, "tunnel port")
		}
		if r.Forward == dataplane.Masq && (s.Port != 0 || s.Mark != 0) {
			r.Port = rapid.Uint16().Draw(t, "server port")
		}
		s.Servers = append(s.Servers, r)
	}
	return s
}
