package guest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"systole/dataplane"
	"systole/dataplane/ipvs"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
)

const guePort = 6080

// form is a kind of tunnel to one real server, for a virtual address of one
// family. Its services are on a port of its own.
type form struct {
	name string
	vip  netip.Addr
	to   dataplane.RealServer
}

// forms are all that there are.
func forms() (all []form) {
	for _, v := range []struct {
		name string
		vip  netip.Addr
	}{{"IPv4", vip}, {"IPv6", vip6}} {
		for _, o := range []struct {
			name         string
			addr, source netip.Addr
		}{{"IPv4", serverAddr(0), director.Addr()}, {"IPv6", serverAddr6(0), director6.Addr()}} {
			for _, forward := range []dataplane.Forward{dataplane.IPIP, dataplane.GUE} {
				r := dataplane.RealServer{Addr: o.addr, Weight: 1, MAC: serverMAC(0), Source: o.source, MTU: 1500, Forward: forward}
				if forward == dataplane.GUE {
					r.TunnelPort = guePort
				}
				all = append(all, form{fmt.Sprintf("%s in %s, %s", v.name, o.name, forward), v.vip, r})
			}
		}
	}
	return all
}

func (f form) port(i int) uint16 { return uint16(7000 + i) }

// frame is the n-th client's to the form's service.
func (f form) frame(n, i int, p dataplane.Protocol, flags string) planetest.Frame {
	if f.vip.Is6() {
		return client6(n, p, f.port(i), flags)
	}
	return client(n, p, f.port(i), flags)
}

// tunnelPlan has the services of all forms, TCP and UDP.
func tunnelPlan() dataplane.Snapshot {
	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Active}, {Addr: vip6, Role: dataplane.Active}}}
	for i, f := range forms() {
		for _, p := range []dataplane.Protocol{dataplane.TCP, dataplane.UDP} {
			s.Services = append(s.Services, dataplane.Service{
				ServiceKey: dataplane.ServiceKey{VIP: f.vip, Port: f.port(i), Protocol: p}, Scheduler: "rr", Servers: []dataplane.RealServer{f.to},
			})
		}
	}
	return s
}

func tunnelPlane(t *testing.T) *xdp.Plane {
	t.Helper()
	p, err := xdp.Load(xdp.Config{Flows: 1 << 14}, own)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	must(t, p.Renew(dataplane.Unlimited))
	_, err = p.Apply(tunnelPlan())
	must(t, err)
	return p
}

// ask runs the program and returns what it sends, nil if nothing.
func ask(t *testing.T, prog *ebpf.Program, frame []byte) []byte {
	t.Helper()
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+128)}
	verdict, err := prog.Run(&opts)
	must(t, err)
	if verdict != 3 {
		return nil
	}
	return opts.DataOut
}

// hopped is a frame one router further: IPVS is one, XDP is none.
func hopped(frame []byte) []byte {
	out := bytes.Clone(frame)
	if out[14]>>4 == 6 {
		out[14+7]--
		return out
	}
	out[14+8]--
	binary.BigEndian.PutUint16(out[14+10:], binary.BigEndian.Uint16(out[14+10:])+0x100)
	return out
}

// comparableTunnel is a tunnelled frame without what a director may choose: the
// identification of IPv4 that may be fragmented, with the checksum, and the source
// port of GUE.
func comparableTunnel(frame []byte, r dataplane.RealServer) []byte {
	out := bytes.Clone(frame)
	if r.Addr.Is4() && len(out) >= 34 && out[14+6]&0x40 == 0 {
		copy(out[14+4:], []byte{0, 0})
		copy(out[14+10:], []byte{0, 0})
	}
	if at := 14 + r.Overhead() - 12; r.Forward == dataplane.GUE && len(out) >= at+2 {
		copy(out[at:], []byte{0, 0})
	}
	return out
}

// TestTunnelsAsIPVS: what XDP writes is what IPVS writes.
func TestTunnelsAsIPVS(t *testing.T) {
	w := newWire(t)
	ours := tunnelPlane(t)
	kernel, err := ipvs.Open(ipvs.Config{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer kernel.Close()
	_, err = kernel.Apply(tunnelPlan())
	must(t, err)
	router, router6 := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:2::1")

	for i, f := range forms() {
		tcp := func(flags string, payload int, df bool) []byte {
			fr := f.frame(100+i, i, dataplane.TCP, flags)
			fr.Payload, fr.DF, fr.TOS = payload, df, 0x2a
			return fr.Bytes()
		}
		header := 40
		if f.vip.Is6() {
			header = 60
		}
		fits := f.to.Most() - header
		answered := f.frame(100+i, i, dataplane.TCP, "A")
		tooBig := func() []byte {
			if f.vip.Is6() {
				return answered.Error(router6, 2, 0, 8)
			}
			return answered.Error(router, 3, 4, 8)
		}
		datagram := f.frame(200+i, i, dataplane.UDP, "")
		datagram.Payload = 100
		for _, tt := range []struct {
			what  string
			frame []byte
		}{
			{"SYN", tcp("S", 0, true)},
			{"segment", tcp("A", 200, true)},
			{"segment that may be fragmented", tcp("A", 200, false)},
			{"the largest segment", tcp("A", fits, true)},
			{"datagram", datagram.Bytes()},
			{"ICMP error", tooBig()},
		} {
			theirs := w.send(tt.frame)
			if len(theirs) != 1 {
				t.Errorf("%s: %s: IPVS sent %x", f.name, tt.what, theirs)
				continue
			}
			got, want := comparableTunnel(trim(ask(t, ours.Program(), hopped(tt.frame))), f.to), comparableTunnel(trim(theirs[0]), f.to)
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %s: XDP and IPVS send\n%x\n%x", f.name, tt.what, got, want)
			}
		}

		// Too big: the same error, but for what is only manners.
		big := tcp("A", fits+1, true)
		theirs := w.send(big)
		if len(theirs) != 1 {
			t.Errorf("%s: too big: IPVS sent %d frames", f.name, len(theirs))
			continue
		}
		got, want := complaintOf(t, ask(t, ours.Program(), hopped(big))), complaintOf(t, theirs[0])
		if got != want {
			t.Errorf("%s: too big: XDP and IPVS say\n%+v\n%+v", f.name, got, want)
		}
		if f.vip.Is6() {
			continue
		}
		// What XDP leaves to it, IPVS sends in fragments.
		if theirs := w.send(tcp("A", fits+1, false)); len(theirs) != 2 {
			t.Errorf("%s: too big, may be fragmented: IPVS sent %d frames", f.name, len(theirs))
		}
	}
}

// trim takes the padding off a frame.
func trim(frame []byte) []byte {
	if len(frame) < 14+40 {
		return frame
	}
	n := int(binary.BigEndian.Uint16(frame[14+2:]))
	if frame[14]>>4 == 6 {
		n = 40 + int(binary.BigEndian.Uint16(frame[14+4:]))
	}
	return frame[:min(len(frame), 14+n)]
}

// complaint is what an ICMP error says.
type complaint struct {
	from, to netip.Addr
	kind     uint16 // type and code
	mtu      uint32
	quote    string
}

func complaintOf(t *testing.T, frame []byte) complaint {
	t.Helper()
	if len(frame) < 14+40+8+64 {
		t.Fatalf("no ICMP error: %x", frame)
	}
	ip := frame[14:]
	addr := func(b []byte) netip.Addr { a, _ := netip.AddrFromSlice(b); return a }
	c := complaint{from: addr(ip[12:16]), to: addr(ip[16:20])}
	icmp := ip[20:]
	if ip[0]>>4 == 6 {
		c.from, c.to, icmp = addr(ip[8:24]), addr(ip[24:40]), ip[40:]
	}
	c.kind, c.mtu, c.quote = binary.BigEndian.Uint16(icmp), binary.BigEndian.Uint32(icmp[4:]), fmt.Sprintf("%x", icmp[8:])
	return c
}

// listenGUE is `ip fou add port 6080 gue`. netlink.FouAdd names an IP protocol of
// 0 as well, which kernels refuse by now.
func listenGUE(t *testing.T, family int) {
	t.Helper()
	id, err := netlink.FouFamilyId()
	must(t, err)
	req := nl.NewNetlinkRequest(id, unix.NLM_F_ACK)
	raw := []byte{netlink.FOU_CMD_ADD, 1, 0, 0}
	for _, a := range []*nl.RtAttr{
		nl.NewRtAttr(netlink.FOU_ATTR_PORT, binary.BigEndian.AppendUint16(nil, guePort)),
		nl.NewRtAttr(netlink.FOU_ATTR_TYPE, []byte{netlink.FOU_ENCAP_GUE}),
		nl.NewRtAttr(netlink.FOU_ATTR_AF, []byte{byte(family)}),
	} {
		raw = append(raw, a.Serialize()...)
	}
	req.AddRawData(raw)
	_, err = req.Execute(unix.NETLINK_GENERIC, 0)
	must(t, err)
}

// TestTunnelsReceived: a real server's kernel takes out what XDP packed in.
func TestTunnelsReceived(t *testing.T) {
	namespace(t)
	for _, dir := range []string{"all", "default"} {
		must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+dir+"/rp_filter", []byte("0"), 0))
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+dir+"/accept_dad", []byte("0"), 0))
	}
	must(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "lan", HardwareAddr: serverMAC(0)}, PeerName: "far", PeerHardwareAddr: own,
	}))
	up(t, "lan")
	up(t, "far")
	addAddr(t, "lan", netip.PrefixFrom(serverAddr(0), 24))
	addAddr(t, "lan", netip.PrefixFrom(serverAddr6(0), 64))
	addAddr(t, "lo", netip.PrefixFrom(vip, 32))
	addAddr(t, "lo", netip.PrefixFrom(vip6, 128))
	neighbour(t, "lan", director.Addr(), own)
	neighbour(t, "lan", director6.Addr(), own)

	// What docs/tunnels.md says a real server needs.
	for _, l := range []netlink.Link{
		&netlink.Iptun{LinkAttrs: netlink.LinkAttrs{Name: "t44"}, Local: serverAddr(0).AsSlice()},
		&netlink.Sittun{LinkAttrs: netlink.LinkAttrs{Name: "t64"}, Local: serverAddr(0).AsSlice()},
		&netlink.Ip6tnl{LinkAttrs: netlink.LinkAttrs{Name: "t6"}, Local: serverAddr6(0).AsSlice()},
	} {
		must(t, netlink.LinkAdd(l))
		up(t, l.Attrs().Name)
	}
	if out, err := exec.Command("modprobe", "-a", "fou", "fou6").CombinedOutput(); err != nil {
		t.Fatalf("modprobe: %v\n%s", err, out)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		listenGUE(t, family)
	}

	ours := tunnelPlane(t)
	far := device(t, "far").Attrs().Index
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	for i, f := range forms() { // no subtests: they would run in another namespace
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.vip, f.port(i))))
		must(t, err)
		defer conn.Close()
		for _, payload := range []int{1, 2, 1000, f.to.Most() - 48} {
			fr := f.frame(300+i, i, dataplane.UDP, "")
			fr.Payload = payload
			out := ask(t, ours.Program(), fr.Bytes())
			if out == nil {
				t.Fatalf("%s: %d bytes are not sent", f.name, payload)
			}
			must(t, unix.Sendto(fd, out, 0, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: far}))
			must(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
			buf := make([]byte, 2000)
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil || n != payload || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != fr.From {
				t.Errorf("%s: %d bytes from %s (%v), want %d from %s", f.name, n, from, err, payload, fr.From)
				break
			}
		}
	}
}
