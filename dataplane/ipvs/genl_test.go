package ipvs

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"systole/dataplane"
)

// attr is an attribute with its padding, as the kernel writes it.
func attr(typ uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func u64(typ uint16, v uint64) []byte {
	return attr(typ, binary.NativeEndian.AppendUint64(nil, v)...)
}

func u32(typ uint16, v uint32) []byte {
	return attr(typ, binary.NativeEndian.AppendUint32(nil, v)...)
}

func u16(typ uint16, v uint16) []byte {
	return attr(typ, binary.NativeEndian.AppendUint16(nil, v)...)
}

var (
	statsMessage   = join(u64(statsConns, 1<<33), u64(statsInPkts, 2<<33), u64(3, 0), u64(statsInBytes, 3<<33))
	serviceMessage = attr(attrService, join(u16(svcFamily, unix.AF_INET), attr(svcStats64, statsMessage...))...)
	destMessage    = attr(attrDest|unix.NLA_F_NESTED, join(
		attr(dstAddr, 192, 168, 145, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), attr(dstPort, 0, 80),
		u16(dstFamily, unix.AF_INET), attr(dstStats64, statsMessage...))...)
	dest6Message = attr(attrDest, join(
		attr(dstAddr, netip.MustParseAddr("2001:db8::11").AsSlice()...), attr(dstPort, 1, 187),
		u16(dstFamily, unix.AF_INET6), attr(dstStats64, statsMessage...))...)
	infoMessage = join(u32(infoVersion, 0x010201), u32(infoSize, 4096))
)

func TestParse(t *testing.T) {
	want := dataplane.Counters{Connections: 1 << 33, Packets: 2 << 33, Bytes: 3 << 33}
	if got, err := parseService(serviceMessage); err != nil || got != want {
		t.Errorf("service: %+v, %v", got, err)
	}
	for addr, msg := range map[string][]byte{"192.168.145.11:80": destMessage, "[2001:db8::11]:443": dest6Message} {
		a, got, err := parseDest(msg)
		if err != nil || got != want || a != netip.MustParseAddrPort(addr) {
			t.Errorf("server %s: %s %+v, %v", addr, a, got, err)
		}
	}
	if v, n, err := parseInfo(infoMessage); err != nil || v != "1.2.1" || n != 4096 {
		t.Errorf("info: %q %d, %v", v, n, err)
	}
}

// Cut anywhere, with the lengths put right or not, a message is refused.
func TestParseCut(t *testing.T) {
	for name, c := range map[string]struct {
		msg   []byte
		parse func([]byte) error
	}{
		"service": {serviceMessage, func(b []byte) error { _, err := parseService(b); return err }},
		"server":  {destMessage, func(b []byte) error { _, _, err := parseDest(b); return err }},
		"info":    {infoMessage, func(b []byte) error { _, _, err := parseInfo(b); return err }},
	} {
		for n := range c.msg {
			if err := c.parse(c.msg[:n]); !errors.Is(err, errMessage) {
				t.Errorf("%s cut at %d: %v", name, n, err)
			}
			if name == "info" || n < 4 {
				continue
			}
			whole := append([]byte(nil), c.msg[:n]...)
			binary.NativeEndian.PutUint16(whole, uint16(n))
			if err := c.parse(whole); !errors.Is(err, errMessage) {
				t.Errorf("%s of %d bytes: %v", name, n, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{serviceMessage, destMessage, dest6Message, infoMessage, {5, 0, 1, 0, 0}, {3, 0, 1, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err1 := parseService(b)
		a, _, err2 := parseDest(b)
		_, _, err3 := parseInfo(b)
		for _, err := range []error{err1, err2, err3} {
			if err != nil && !errors.Is(err, errMessage) {
				t.Errorf("error without errMessage: %v", err)
			}
		}
		if err2 == nil && !a.IsValid() {
			t.Error("a server without address")
		}
	})
}

// What goes to the library comes back the same, hashed flag or not.
func TestLibraryForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := service(uint16(rapid.IntRange(1, 65535).Draw(t, "port")), [2]int{1, rapid.IntRange(0, maxWeight).Draw(t, "weight")})
		if rapid.Bool().Draw(t, "v6") {
			s.Key.VIP = netip.MustParseAddr("2001:db8::1")
			s.Servers[0].Addr = netip.AddrPortFrom(netip.MustParseAddr("2001:db8::11"), s.Key.Port)
			s.Netmask = 128
		}
		if mark := rapid.Uint32().Draw(t, "mark"); mark != 0 && rapid.Bool().Draw(t, "marked") {
			s.FWMark = mark
			s.Key = dataplane.ServiceKey{VIP: map[bool]netip.Addr{false: netip.IPv4Unspecified(), true: netip.IPv6Unspecified()}[s.v6()]}
		}
		s.Flags = Flags(rapid.SampledFrom([]Flags{0, Persistent, OnePacket | Sched1}).Draw(t, "flags"))
		s.Servers[0].Forward = Forward(rapid.IntRange(0, 3).Draw(t, "forward"))
		to := serviceTo(&s)
		to.Flags |= uint32(hashed)
		back, err := serviceFrom(to)
		if err != nil {
			t.Fatal(err)
		}
		srv, err := serverFrom(serverTo(s.Servers[0]))
		if err != nil {
			t.Fatal(err)
		}
		back.Servers = []Server{srv}
		if got, want := text([]Service{back}), text([]Service{s}); got != want || back.id() != s.id() {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
	})
	if _, err := serviceFrom(&ipvs.Service{}); err == nil {
		t.Error("a service without address")
	}
	if _, err := serverFrom(&ipvs.Destination{}); err == nil {
		t.Error("a server without address")
	}
}

func TestExplain(t *testing.T) {
	s := service(80, [2]int{1, 1})
	for _, c := range []struct {
		verb verb
		err  error
		want string
	}{
		{addService, unix.ENOENT, `the kernel has no scheduler "rr" (modprobe ip_vs_rr): no such file or directory`},
		{setService, unix.ENOENT, `the kernel has no scheduler "rr" (modprobe ip_vs_rr): no such file or directory`},
		{addServer, unix.EINVAL, "the kernel does not take this for the address of a host (is the network configured?): invalid argument"},
		{setServer, unix.ENOENT, "no such file or directory"},
		{addService, unix.EPERM, "operation not permitted"},
	} {
		if got := explain(c.err, op{verb: c.verb, service: &s}); got.Error() != c.want || !errors.Is(got, c.err) {
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
