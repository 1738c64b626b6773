package ipvs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"systole/dataplane"
)

// attr is an attribute with its padding, as struct nlattr has it.
func attr(typ uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func u64(typ uint16, v uint64) []byte {
	return attr(typ, binary.NativeEndian.AppendUint64(nil, v)...)
}

func u32(typ uint16, v ...uint32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.NativeEndian.AppendUint32(b, x)
	}
	return attr(typ, b...)
}

func u16(typ uint16, v uint16) []byte {
	return attr(typ, binary.NativeEndian.AppendUint16(nil, v)...)
}

const nested = 0x8000 // NLA_F_NESTED

// The bytes that go to the kernel. The numbers are those of linux/ip_vs.h, not
// the constants of this package.
func TestEncode(t *testing.T) {
	v4 := Service{
		Key:       dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: dataplane.TCP},
		Scheduler: "sh", Flags: Persistent | hashed | Sched2, Timeout: 300, Netmask: dotted(255, 255, 255, 0), Engine: "sip",
	}
	v6mark := Service{
		Key:       dataplane.ServiceKey{VIP: netip.IPv6Unspecified(), Mark: 9},
		Scheduler: "wrr", Flags: OnePacket, Netmask: 128,
	}
	name := join(u16(1, 2), u16(2, 6), attr(3, 192, 168, 145, 101), attr(4, 0, 80))
	markName := join(u16(1, 10), u32(5, 9))
	route := Server{Addr: netip.MustParseAddrPort("192.168.145.11:8080"), Forward: Masq, Weight: 70000, Upper: 100, Lower: 50}
	gue := Server{Addr: netip.MustParseAddrPort("[2001:db8::11]:443"), Forward: Tunnel, Weight: 1, Tunnel: TunnelTo{GUE, 6080, tunCsum}}
	v6 := netip.MustParseAddr("2001:db8::11").AsSlice()
	for what, c := range map[string]struct {
		got  *nl.RtAttr
		want []byte
	}{
		"service": {serviceAttr(&v4), attr(1|nested, join(name,
			attr(6, 's', 'h', 0), attr(11, 's', 'i', 'p', 0), u32(7, 0x11, 0xfffffffd), u32(8, 300), attr(9, 255, 255, 255, 0))...)},
		"service of a mark": {serviceAttr(&v6mark), attr(1|nested, join(markName,
			attr(6, 'w', 'r', 'r', 0), u32(7, 4, 0xfffffffd), u32(8, 0), u32(9, 128))...)},
		"name of a service": {serviceName(&v4), attr(1|nested, name...)},
		"name of a mark":    {serviceName(&v6mark), attr(1|nested, markName...)},
		"server": {serverAttr(&route), attr(2|nested, join(
			u16(11, 2), attr(1, 192, 168, 145, 11), attr(2, 0x1f, 0x90), u32(3, 0), u32(4, 70000), u32(5, 100), u32(6, 50))...)},
		"server over gue": {serverAttr(&gue), attr(2|nested, join(
			u16(11, 10), attr(1, v6...), attr(2, 1, 187), u32(3, 2), u32(4, 1), u32(5, 0), u32(6, 0),
			attr(13, 1), attr(14, 0x17, 0xc0), u16(15, 1))...)},
		"name of a server": {serverName(&gue), attr(2|nested, join(u16(11, 10), attr(1, v6...), attr(2, 1, 187))...)},
		"daemon": {daemonAttr(&Daemon{Role: SyncBackup, Interface: "eth0", SyncID: 7}), attr(3|nested, join(
			u32(1, 2), attr(2, 'e', 't', 'h', '0', 0), u32(3, 7))...)},
		"daemon with all": {daemonAttr(&Daemon{SyncMaster, "eth1", 255, netip.MustParseAddr("239.1.2.3"), 9000, 5, 1400}), attr(3|nested, join(
			u32(1, 1), attr(2, 'e', 't', 'h', '1', 0), u32(3, 255), u16(4, 1400), attr(5, 239, 1, 2, 3), u16(7, 9000), attr(8, 5))...)},
		"daemon of an IPv6 group": {daemonAttr(&Daemon{Role: SyncMaster, Interface: "e", Group: netip.MustParseAddr("ff02::5")}), attr(3|nested, join(
			u32(1, 1), attr(2, 'e', 0), u32(3, 0), attr(6, netip.MustParseAddr("ff02::5").AsSlice()...))...)},
	} {
		if got := c.got.Serialize(); !bytes.Equal(got, c.want) {
			t.Errorf("%s:\n got %x\nwant %x", what, got, c.want)
		}
	}
	var times []byte
	for _, a := range timeoutAttrs(dataplane.Timeouts{TCP: 15 * time.Minute, UDP: 5 * time.Minute}) {
		times = append(times, a.Serialize()...)
	}
	if want := join(u32(4, 900), u32(6, 300)); !bytes.Equal(times, want) {
		t.Errorf("timeouts:\n got %x\nwant %x", times, want)
	}
}

// What a kernel answers, by the numbers of linux/ip_vs.h.
var (
	statsMessage = join(u64(1, 1<<33), u64(2, 2<<33), u64(3, 3<<33), u64(4, 4<<33), u64(5, 5<<33),
		u64(6, 6), u64(7, 7), u64(8, 8), u64(9, 9), u64(10, 10), attr(11))
	statsWanted = Stats{1 << 33, 2 << 33, 3 << 33, 4 << 33, 5 << 33, Rate{6, 7, 8, 9, 10}}

	serviceMessage = attr(1|nested, join(u16(1, 2), u16(2, 17), attr(3, 192, 168, 145, 101, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), attr(4, 0, 53),
		attr(6, 'r', 'r', 0), attr(11, 's', 'i', 'p', 0), u32(7, 7, 0xffffffff), u32(8, 60), attr(9, 255, 255, 0, 0), attr(10), attr(12|nested, statsMessage...))...)
	markMessage = attr(1, join(u16(1, 10), u32(5, 7), attr(6, 'm', 'h', 0), u32(7, 2, 0xffffffff), u32(8, 0), u32(9, 128), attr(12, statsMessage...))...)

	destMessage = attr(2|nested, join(
		attr(1, 192, 168, 145, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), attr(2, 0, 80), u32(3, 0x103), u32(4, 70000),
		attr(13, 0), attr(14, 0, 0), u16(15, 0), u32(5, 100), u32(6, 50), u32(7, 3), u32(8, 4), u32(9, 5), u16(11, 2),
		attr(10), attr(12|nested, statsMessage...))...)
	dest6Message = attr(2, join(
		attr(1, netip.MustParseAddr("2001:db8::11").AsSlice()...), attr(2, 1, 187), u32(3, 2), u32(4, 1),
		attr(13, 1), attr(14, 0x17, 0xc0), u16(15, 1), u32(5, 0), u32(6, 0), u32(7, 0), u32(8, 0), u32(9, 0), u16(11, 10),
		attr(12, statsMessage...))...)

	daemonMessage = attr(3|nested, join(u32(1, 1), attr(2, 'e', 't', 'h', '0', 0), u32(3, 7), u16(4, 1472), u16(7, 8848), attr(8, 1), attr(5, 224, 0, 0, 81))...)
	configMessage = join(u32(4, 900), u32(5, 120), u32(6, 300))
	infoMessage   = join(u32(1, 0x010201), u32(2, 4096))
)

func TestDecode(t *testing.T) {
	for msg, want := range map[string]Service{
		string(serviceMessage): {
			Key: dataplane.ServiceKey{VIP: vip, Port: 53, Protocol: dataplane.UDP}, Scheduler: "rr",
			Flags: Persistent | hashed | OnePacket, Timeout: 60, Netmask: dotted(255, 255, 0, 0), Engine: "sip", Stats: statsWanted,
		},
		string(markMessage): {
			Key: dataplane.ServiceKey{VIP: netip.IPv6Unspecified(), Mark: 7}, Scheduler: "mh", Flags: hashed, Netmask: 128, Stats: statsWanted,
		},
	} {
		got, err := parseService([]byte(msg))
		if err != nil || text([]Service{got}) != text([]Service{want}) || got.Stats != want.Stats || got.Flags != want.Flags {
			t.Errorf("service %+v, %v, want %+v", got, err, want)
		}
	}
	for msg, want := range map[string]Server{
		string(destMessage): {
			Addr: netip.MustParseAddrPort("192.168.145.11:80"), Forward: Route, Weight: 70000, Upper: 100, Lower: 50,
			Active: 3, Inactive: 4, Persistent: 5, Stats: statsWanted,
		},
		string(dest6Message): {
			Addr: netip.MustParseAddrPort("[2001:db8::11]:443"), Forward: Tunnel, Weight: 1, Tunnel: TunnelTo{GUE, 6080, tunCsum}, Stats: statsWanted,
		},
	} {
		if got, err := parseServer([]byte(msg)); err != nil || got != want {
			t.Errorf("server %+v, %v, want %+v", got, err, want)
		}
	}
	if d, err := parseDaemon(daemonMessage); err != nil || d != (Daemon{SyncMaster, "eth0", 7, DefaultSyncGroup, 8848, 1, 1472}) {
		t.Errorf("daemon %+v, %v", d, err)
	}
	if c, err := parseTimeouts(configMessage); err != nil || c != (dataplane.Timeouts{TCP: 15 * time.Minute, TCPFin: 2 * time.Minute, UDP: 5 * time.Minute}) {
		t.Errorf("timeouts %+v, %v", c, err)
	}
	if v, n, err := parseInfo(infoMessage); err != nil || v != "1.2.1" || n != 4096 {
		t.Errorf("info: %q %d, %v", v, n, err)
	}
}

// decoders are all that read what a kernel sends.
var decoders = map[string]struct {
	msg  []byte
	read func([]byte) error
}{
	"service": {serviceMessage, func(b []byte) error { _, err := parseService(b); return err }},
	"server":  {destMessage, func(b []byte) error { _, err := parseServer(b); return err }},
	"daemon":  {daemonMessage, func(b []byte) error { _, err := parseDaemon(b); return err }},
	"config":  {configMessage, func(b []byte) error { _, err := parseTimeouts(b); return err }},
	"info":    {infoMessage, func(b []byte) error { _, _, err := parseInfo(b); return err }},
}

// Cut anywhere, with the outer length put right or not, a message is refused.
func TestDecodeCut(t *testing.T) {
	for name, c := range decoders {
		last := len(c.msg)
		for n := range last {
			if err := c.read(c.msg[:n]); !errors.Is(err, errMessage) {
				t.Errorf("%s cut at %d: %v", name, n, err)
			}
			if name == "config" || name == "info" || n < 4 || n >= last-4 {
				continue // no outer attribute, or only the padding of the last inner one is cut
			}
			if old := 32; name == "daemon" && n == old {
				continue // that much a kernel before 4.3 sends
			}
			whole := append([]byte(nil), c.msg[:n]...)
			binary.NativeEndian.PutUint16(whole, uint16(n))
			if err := c.read(whole); !errors.Is(err, errMessage) {
				t.Errorf("%s of %d bytes: %v", name, n, err)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range decoders {
		f.Add(c.msg)
	}
	for _, b := range [][]byte{markMessage, dest6Message, {5, 0, 1, 0, 0}, {3, 0, 1, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, c := range decoders {
			if err := c.read(b); err != nil && !errors.Is(err, errMessage) {
				t.Errorf("%s: error without errMessage: %v", name, err)
			}
		}
		if s, err := parseService(b); err == nil && !s.Key.VIP.IsValid() {
			t.Error("a service without address")
		}
		if s, err := parseServer(b); err == nil && !s.Addr.IsValid() {
			t.Error("a server without address")
		}
	})
}

// What goes to the kernel comes back the same: any service we can carry.
func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawService(t)
		if err := Carries(d); err != nil {
			t.Fatal(err)
		}
		s := serviceOf(&d)
		a := serviceAttr(&s)
		a.AddRtAttr(svcStats64, statsMessage)
		back, err := parseService(a.Serialize())
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.Servers {
			a := serverAttr(&s.Servers[i])
			for _, typ := range []int{dstActive, dstInactive, dstPersist} {
				a.AddRtAttr(typ, make([]byte, 4))
			}
			a.AddRtAttr(dstStats64, statsMessage)
			srv, err := parseServer(a.Serialize())
			if err != nil {
				t.Fatal(err)
			}
			back.Servers = append(back.Servers, srv)
		}
		if got, want := text([]Service{back}), text([]Service{s}); got != want || back.Key != s.Key || back.Stats != statsWanted {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
	})
}

func TestExplain(t *testing.T) {
	s, other, engine := service(80, [2]int{1, 1}), service(80, [2]int{1, 1}), service(80)
	other.Servers[0].Addr = netip.AddrPortFrom(real6, 80)
	engine.Engine = "sip"
	for _, c := range []struct {
		verb verb
		s    *Service
		err  error
		want string
	}{
		{addService, &s, unix.ENOENT, `invalid snapshot: the kernel has no scheduler "rr" (modprobe ip_vs_rr): no such file or directory`},
		{setService, &s, unix.ENOENT, `invalid snapshot: the kernel has no scheduler "rr" (modprobe ip_vs_rr): no such file or directory`},
		{addService, &engine, unix.ENOENT, `the kernel has no scheduler "rr" or no persistence engine "sip" (modprobe ip_vs_rr, ip_vs_pe_sip): no such file or directory`},
		{addService, &s, unix.EAFNOSUPPORT, "the kernel's IPVS has no IPv6 (CONFIG_IP_VS_IPV6): address family not supported by protocol"},
		{addServer, &s, unix.EINVAL, "the kernel does not take this for the address of a host (is the network configured?): invalid argument"},
		{addServer, &other, unix.EINVAL, "the kernel takes no server of the other address family while a sync daemon runs: invalid argument"},
		{setServer, &s, unix.ENOENT, "no such file or directory"},
		{addService, &s, unix.EPERM, "operation not permitted"},
	} {
		o := op{verb: c.verb, service: c.s}
		if c.verb >= addServer {
			o.server = c.s.Servers[0]
		}
		if got := explain(c.err, o); got.Error() != c.want || !errors.Is(got, c.err) {
			t.Errorf("%v of verb %d: %v", c.err, c.verb, got)
		}
	}
	if explain(nil, op{verb: addService, service: &s}) != nil {
		t.Error("no error explained")
	}
	if unlessGone(unix.ESRCH) != nil || unlessGone(unix.ENOENT) != nil || unlessGone(unix.EPERM) == nil {
		t.Error("unlessGone")
	}
}
