package guest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// outcome is what became of a frame: the real server that it went to, 0..; or
// -1 and what happened instead.
type outcome struct {
	server int
	why    string // "up", "dropped"; of IPVS what the kernel answered
}

func (o outcome) String() string {
	if o.server >= 0 {
		return "forwarded"
	}
	return o.why
}

var (
	routerAddr = netip.MustParseAddr("192.168.145.1")
	vip6       = netip.MustParseAddr("2001:db8::101")
	director6  = netip.MustParsePrefix("2001:db8::2/64")
)

// vlan has a device of the director's.
const vlan = 7

func serverAddr6(n int) netip.Addr {
	a := netip.MustParseAddr("2001:db8::200").As16()
	a[15] = byte(n)
	return netip.AddrFrom16(a)
}

// wire is the cable of a director that forwards with the kernel, seen from the
// other end: what is sent there comes to the director, what the director sends
// comes back, to whichever real server or router.
type wire struct {
	*testing.T
	fd, far int
	seq     uint16
}

// newWire makes the namespace that the test is in a director's.
func newWire(t *testing.T) *wire {
	t.Helper()
	namespace(t)
	sysctl := func(key, value string) { must(t, os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)) }
	sysctl("ipv4/icmp_ratemask", "0")
	sysctl("ipv6/icmp/ratelimit", "0")
	for _, dir := range []string{"all", "default"} {
		sysctl("ipv4/conf/"+dir+"/rp_filter", "0")
		sysctl("ipv6/conf/"+dir+"/accept_dad", "0")
		sysctl("ipv6/conf/"+dir+"/router_solicitations", "0")
	}
	cable(t, "lan", "far")
	sysctl("ipv6/conf/far/disable_ipv6", "1")
	must(t, netlink.LinkAdd(&netlink.Vlan{
		LinkAttrs: netlink.LinkAttrs{Name: "tagged", ParentIndex: device(t, "lan").Attrs().Index}, VlanId: vlan,
	}))
	up(t, "tagged")
	for dev, prefixes := range map[string][]netip.Prefix{
		"lan": {director, director6}, "lo": {netip.PrefixFrom(vip, 32), netip.PrefixFrom(vip6, 128)},
	} {
		for _, p := range prefixes {
			addAddr(t, dev, p)
		}
	}
	router6 := netip.MustParseAddr("2001:db8::1")
	for _, a := range []netip.Addr{routerAddr, router6} {
		neighbour(t, "lan", a, routerMAC)
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: device(t, "lan").Attrs().Index, Gw: a.AsSlice()}))
	}
	for n := range 4 {
		neighbour(t, "lan", serverAddr(n), serverMAC(n))
		neighbour(t, "lan", serverAddr6(n), serverMAC(n))
	}
	w := &wire{T: t, far: device(t, "far").Attrs().Index}
	var err error
	w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(w.fd) })
	must(t, unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: w.far}))
	must(t, unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	return w
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// send puts a frame on the wire and returns all that came back for it. An echo
// of the director's own address, asked for behind it, shows that there is no
// more to come: one CPU does it all, in order.
func (w *wire) send(frame []byte) (back [][]byte) {
	w.Helper()
	w.seq++
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7, Seq: w.seq}
	for _, f := range [][]byte{frame, ipv4(routerAddr, director.Addr(), 64, layers.IPProtocolICMPv4, echo)} {
		must(w.T, unix.Sendto(w.fd, f, 0, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: w.far}))
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		buf := make([]byte, 4096)
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		must(w.T, err)
		if a, ok := from.(*unix.SockaddrLinklayer); !ok || a.Pkttype == unix.PACKET_OUTGOING {
			continue // our own
		}
		p := gopacket.NewPacket(buf[:n], layers.LayerTypeEthernet, gopacket.Default)
		if reply, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && reply.TypeCode.Type() == layers.ICMPv4TypeEchoReply && reply.Id == 7 {
			if reply.Seq == w.seq {
				return back
			}
			continue
		}
		if p.Layer(layers.LayerTypeARP) == nil && !discovery(p) {
			back = append(back, buf[:n])
		}
	}
	w.Fatal("the director does not answer")
	return nil
}

// discovery tells the chatter of IPv6 (RFC 4861, RFC 3810) from traffic.
func discovery(p gopacket.Packet) bool {
	i, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	return ok && i.TypeCode.Type() >= 130
}

// judge names what came back for the frames of one datagram.
func (w *wire) judge(frames ...[]byte) outcome {
	w.Helper()
	var back [][]byte
	for _, frame := range frames {
		back = append(back, w.send(frame)...)
	}
	if len(back) == 0 {
		return outcome{-1, "nothing"}
	}
	for n := range 4 {
		if !slices.ContainsFunc(back, func(f []byte) bool { return !bytes.Equal(f[:6], serverMAC(n)) }) {
			return outcome{server: n}
		}
	}
	p := gopacket.NewPacket(back[0], layers.LayerTypeEthernet, gopacket.Default)
	if t, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && t.RST {
		return outcome{-1, "reset"}
	}
	if i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return outcome{-1, i.TypeCode.String()}
	}
	if i, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		return outcome{-1, i.TypeCode.String()}
	}
	return outcome{-1, fmt.Sprintf("%d frames to %s", len(back), net.HardwareAddr(back[0][:6]))}
}

// judgeXDP is the same of the program.
func judgeXDP(t *testing.T, prog *ebpf.Program, frames ...[]byte) outcome {
	t.Helper()
	first := judgeFrame(t, prog, frames[0])
	for _, frame := range frames[1:] {
		if o := judgeFrame(t, prog, frame); o != first {
			return outcome{-1, fmt.Sprintf("%s and %s", first, o)}
		}
	}
	return first
}

func judgeFrame(t *testing.T, prog *ebpf.Program, frame []byte) outcome {
	t.Helper()
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64)}
	verdict, err := prog.Run(&opts)
	must(t, err)
	out := opts.DataOut
	switch verdict {
	case 1:
		return outcome{-1, "dropped"}
	case 2:
		if !bytes.Equal(out, frame) {
			t.Errorf("a frame that goes up was changed:\n%x\n%x", frame, out)
		}
		return outcome{-1, "up"}
	case 3:
		n := slices.IndexFunc([]int{0, 1, 2, 3}, func(n int) bool { return bytes.Equal(out[:6], serverMAC(n)) })
		if n < 0 || !bytes.Equal(out[12:], frame[12:]) {
			t.Errorf("to nobody, or more than addresses was changed:\n%x\n%x", frame, out)
		}
		return outcome{server: n}
	}
	t.Fatalf("verdict %d", verdict)
	return outcome{}
}

// ipv4 is a frame to the director.
func ipv4(from, to netip.Addr, ttl uint8, proto layers.IPProtocol, payload ...gopacket.SerializableLayer) []byte {
	ip := &layers.IPv4{Version: 4, TTL: ttl, Protocol: proto, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	for _, p := range payload {
		if t, ok := p.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			_ = t.SetNetworkLayerForChecksum(ip) // it is one
		}
	}
	return serialize(append([]gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: routerMAC, DstMAC: own, EthernetType: layers.EthernetTypeIPv4}, ip,
	}, payload...)...)
}

func serialize(stack ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		panic(fmt.Sprintf("frame: %v", err)) // the test is wrong
	}
	return buf.Bytes()
}
