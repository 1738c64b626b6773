package observe

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"systole/dataplane"
	"systole/test/need"
)

var (
	director = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	router   = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	server   = net.HardwareAddr{2, 0, 0, 0, 1, 1}
)

func serialize(stack ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, stack...); err != nil {
		panic(err)
	}
	return bytes.Clone(buf.Bytes())
}

func ether(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: router, DstMAC: director, EthernetType: t}
}

func ip4(src, dst string, p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func ip6(src, dst string, p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

var syn = &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true}

func TestHeaders(t *testing.T) {
	plain := serialize(ether(layers.EthernetTypeIPv4), ip4("10.0.0.1", "192.168.145.101", layers.IPProtocolTCP), syn)
	tunnelled := serialize(ether(layers.EthernetTypeIPv4), ip4("192.168.145.10", "192.168.146.200", layers.IPProtocolIPv4), ip4("10.0.0.1", "192.168.145.101", layers.IPProtocolTCP), syn)
	gue := serialize(ether(layers.EthernetTypeIPv4), ip4("192.168.145.10", "192.168.146.200", layers.IPProtocolUDP), &layers.UDP{SrcPort: 5555, DstPort: guePort},
		gopacket.Payload(append([]byte{0, 4, 0, 0}, plain[14:]...)))
	later := ip4("10.0.0.1", "192.168.145.101", layers.IPProtocolUDP)
	later.FragOffset = 100
	tooBig := serialize(ether(layers.EthernetTypeIPv4), ip4("172.16.0.1", "192.168.145.101", layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)},
		gopacket.Payload(serialize(ip4("192.168.145.101", "10.0.0.1", layers.IPProtocolTCP), &layers.TCP{SrcPort: 80, DstPort: 40000, ACK: true})))
	tagged := append(append(bytes.Clone(plain[:12]), 0x81, 0, 0, 7), plain[12:]...)
	for _, tt := range []struct {
		name   string
		frame  []byte
		want   string
		client string
	}{
		{"TCP", plain, "10.0.0.1:40000 > 192.168.145.101:80 tcp SYN", "10.0.0.1:40000"},
		{"VLAN", tagged, "vlan 7 10.0.0.1:40000 > 192.168.145.101:80 tcp SYN", "10.0.0.1:40000"},
		{"UDP over IPv6", serialize(ether(layers.EthernetTypeIPv6), ip6("2001:db8::1", "2001:db8::101", layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 53}),
			"[2001:db8::1]:1 > [2001:db8::101]:53 udp", "[2001:db8::1]:1"},
		{"IP in IP", tunnelled, "192.168.145.10 > 192.168.146.200 proto-4 (10.0.0.1:40000 > 192.168.145.101:80 tcp SYN)", "192.168.145.10:0"},
		{"GUE", gue, "192.168.145.10:5555 > 192.168.146.200:6080 udp (10.0.0.1:40000 > 192.168.145.101:80 tcp SYN)", "192.168.145.10:5555"},
		{"fragment", serialize(ether(layers.EthernetTypeIPv4), later, gopacket.Payload("rest")), "10.0.0.1 > 192.168.145.101 udp later fragment", "10.0.0.1:0"},
		{"ICMP error", tooBig, "172.16.0.1 > 192.168.145.101 icmp DestinationUnreachable(FragmentationNeeded) (192.168.145.101:80 > 10.0.0.1:40000 tcp ACK)", "10.0.0.1:40000"},
		{"ARP", serialize(ether(layers.EthernetTypeARP), &layers.ARP{AddrType: 1, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: router, SourceProtAddress: []byte{10, 0, 0, 1}, DstHwAddress: make([]byte, 6), DstProtAddress: []byte{192, 168, 145, 101}}),
			"arp request who-has 192.168.145.101 tell 10.0.0.1", "10.0.0.1:0"},
		{"another type", append(bytes.Clone(plain[:12]), 0x88, 0xcc, 1, 2), "0x88cc", "invalid AddrPort"},
		{"cut short", plain[:20], "ip", "invalid AddrPort"},
		{"nothing", nil, "", "invalid AddrPort"},
	} {
		h := Dissect(tt.frame)
		if got := h.String(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if client, _, _ := h.Client(); client.String() != tt.client {
			t.Errorf("%s: client %s, want %s", tt.name, client, tt.client)
		}
	}
	if h := Dissect(plain); !bytes.Equal(h.To, director) || !bytes.Equal(h.From, router) {
		t.Errorf("from %s to %s", h.From, h.To)
	}
}

func FuzzDissect(f *testing.F) {
	f.Add(serialize(ether(layers.EthernetTypeIPv4), ip4("10.0.0.1", "192.168.145.101", layers.IPProtocolTCP), syn))
	f.Add(serialize(ether(layers.EthernetTypeIPv6), ip6("2001:db8::1", "2001:db8::101", layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: guePort}, gopacket.Payload("\x00\x04\x00\x00E")))
	f.Fuzz(func(_ *testing.T, frame []byte) {
		h := Dissect(frame)
		_ = h.String()
		h.Client()
	})
}

// forwarded is a packet that was, with the frames before and after.
func forwarded() *Packet {
	in := serialize(ether(layers.EthernetTypeIPv4), ip4("10.0.0.1", "192.168.145.101", layers.IPProtocolTCP), syn)
	out := append(append(bytes.Clone(server), director...), in[12:]...)
	return &Packet{
		At: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC), Interface: "eth0", Queue: 3, Verdict: Tx, Scheduled: true,
		Server: netip.MustParseAddr("192.168.145.200"), Reasons: []string{"syn_evicted"},
		In: in, InLength: len(in), Out: out, OutLength: len(out),
	}
}

func TestPcap(t *testing.T) {
	var b bytes.Buffer
	w, err := NewPcapWriter(&b, "eth0", "systole test", 4096)
	if err != nil {
		t.Fatal(err)
	}
	p, dropped := forwarded(), forwarded()
	dropped.Verdict, dropped.Scheduled, dropped.Server, dropped.Reasons = Drop, false, netip.Addr{}, []string{"lease_ended"}
	if err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(dropped); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Run("read back", func(t *testing.T) { readBack(t, b.Bytes(), p, dropped) })
	t.Run("tcpdump", func(t *testing.T) {
		cmd := exec.Command(need.Program(t, "tcpdump"), "-nner", "-")
		cmd.Stdin = bytes.NewReader(b.Bytes())
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("tcpdump does not read it: %v", err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(lines) != 3 || !strings.Contains(lines[0], "> 02:00:00:00:00:01") || !strings.Contains(lines[1], "02:00:00:00:00:01 > 02:00:00:00:01:01") ||
			!strings.Contains(lines[1], "10.0.0.1.40000 > 192.168.145.101.80: Flags [S]") {
			t.Errorf("tcpdump reads\n%s", out)
		}
	})
}

func readBack(t *testing.T, file []byte, p, dropped *Packet) {
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		data      []byte
		direction pcapgo.NgEpbFlag
		verdict   byte
		comment   string
	}{
		{p.In, pcapgo.NgEpbFlagDirectionInbound, 3, "tx to 192.168.145.200 (scheduled): syn_evicted"},
		{p.Out, pcapgo.NgEpbFlagDirectionOutbound, 3, "tx to 192.168.145.200 (scheduled): syn_evicted"},
		{dropped.In, pcapgo.NgEpbFlagDirectionInbound, 1, "drop: lease_ended"},
	} {
		data, ci, opts, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if !bytes.Equal(data, want.data) || !ci.Timestamp.Equal(p.At) || ci.Length != len(want.data) {
			t.Errorf("frame %d: %x at %v, %d bytes", i, data, ci.Timestamp, ci.Length)
		}
		if opts.Flags == nil || opts.Flags.Direction != want.direction || opts.Queue == nil || *opts.Queue != 3 ||
			len(opts.Comments) != 1 || opts.Comments[0] != want.comment ||
			len(opts.Verdicts) != 1 || opts.Verdicts[0].Type != pcapgo.NgEpbVerdictTypeLinuxeBPFXDP || opts.Verdicts[0].Data[0] != want.verdict {
			t.Errorf("frame %d: options %+v", i, opts)
		}
	}
	if _, _, _, err := r.ReadPacketDataWithOptions(); err == nil {
		t.Error("there is more: a dropped packet left as no frame")
	}
}

func TestParseClient(t *testing.T) {
	for _, tt := range []struct {
		in, prefix string
		port       uint16
	}{
		{"10.0.0.1", "10.0.0.1/32", 0}, {"10.0.0.1:40000", "10.0.0.1/32", 40000}, {"10.1.2.3/8", "10.0.0.0/8", 0},
		{"2001:db8::1", "2001:db8::1/128", 0}, {"[2001:db8::1]:7", "2001:db8::1/128", 7}, {"2001:db8::/32", "2001:db8::/32", 0},
	} {
		if p, port, err := ParseClient(tt.in); err != nil || p.String() != tt.prefix || port != tt.port {
			t.Errorf("%s: %s port %d, %v", tt.in, p, port, err)
		}
	}
	for _, bad := range []string{"", "web", "10.0.0.1:0", "10.0.0.1:70000", "10.0.0.0/33", "fe80::1%eth0", "10.0.0.1:x"} {
		if p, port, err := ParseClient(bad); err == nil || !strings.Contains(err.Error(), "write an address") {
			t.Errorf("%q: %s port %d, %v", bad, p, port, err)
		}
	}
	for in, want := range map[string]dataplane.ServiceKey{
		"192.168.145.101":        {VIP: netip.MustParseAddr("192.168.145.101")},
		"192.168.145.101:80/tcp": {VIP: netip.MustParseAddr("192.168.145.101"), Port: 80, Protocol: dataplane.TCP},
	} {
		if got, err := ParseService(in); err != nil || got != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	if _, err := ParseService("web"); err == nil {
		t.Error("a service by name")
	}
}

func TestVerdictsInWords(t *testing.T) {
	for v, want := range map[Verdict]string{Aborted: "aborted", Drop: "drop", Pass: "pass", Tx: "tx", Redirect: "redirect"} {
		b, err := json.Marshal(v)
		var back Verdict
		if err != nil || string(b) != `"`+want+`"` || json.Unmarshal(b, &back) != nil || back != v {
			t.Errorf("%d: %s, %v, back %v", v, b, err, back)
		}
	}
	var v Verdict
	if err := v.UnmarshalText([]byte("forward")); err == nil || Verdict(9).String() != "verdict-9" {
		t.Errorf("%v, %s", err, Verdict(9))
	}
}
