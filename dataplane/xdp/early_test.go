package xdp

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/planetest"
)

// ear hears and speaks at the peer's end of a lan.
type ear struct {
	t     *testing.T
	fd    int
	index int
}

func newEar(t *testing.T, l lan) *ear {
	t.Helper()
	peer, err := net.InterfaceByName(l.peer)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: peer.Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 10_000}); err != nil {
		t.Fatal(err)
	}
	return &ear{t, fd, peer.Index}
}

func (e *ear) say(frame []byte) {
	e.t.Helper()
	if err := unix.Sendto(e.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: e.index}); err != nil {
		e.t.Fatal(err)
	}
}

// hears waits for one of the frames, and returns which; -1: none came.
func (e *ear) hears(d time.Duration, frames ...[]byte) (which int) {
	e.t.Helper()
	if !e.hearsOne(d, func(heard []byte) bool {
		which = slices.IndexFunc(frames, func(f []byte) bool { return bytes.Equal(f, heard) })
		return which >= 0
	}) {
		return -1
	}
	return which
}

func (e *ear) hearsOne(d time.Duration, is func(heard []byte) bool) bool {
	e.t.Helper()
	buf := make([]byte, 2000)
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, from, err := unix.Recvfrom(e.fd, buf, 0)
		if err != nil {
			continue
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if is(buf[:n]) {
			return true
		}
	}
	return false
}

// to is a frame as it goes on to a real server, and as a packet socket has it:
// without the VLAN tag.
func to(server int, frame []byte) []byte {
	rest := frame[12:]
	if rest[0] == 0x81 && rest[1] == 0 {
		rest = rest[4:]
	}
	return append(append(bytes.Clone(serverMAC(server)), ownMAC...), rest...)
}

// A datagram whose fragments come in the wrong order is whole at the server of
// its first one; a fragment of nobody's
// goes nowhere.
func TestFragmentsInAnyOrder(t *testing.T) {
	l := newLAN(t)
	cfg := l.config(t)
	cfg.Mode = ModeGeneric // a veth drops native XDP_TX unless its peer has XDP too
	p := open(t, cfg)
	s := twoServices(2)
	vip6 := netip.MustParseAddr("fd00:145::101")
	six := s.Services[1]
	six.VIP, six.Servers = vip6, nil
	for i := range 2 {
		six.Servers = append(six.Servers, dataplane.RealServer{Addr: netip.MustParseAddr(fmt.Sprintf("fd00:145::2%d", i)), Weight: 1, MAC: serverMAC(1 + i)})
	}
	s.VIPs = append(s.VIPs, dataplane.VIP{Addr: vip6, Role: dataplane.Active})
	s.Services = append(s.Services, six)
	apply(t, p, s)
	e := newEar(t, l)
	from6 := netip.MustParseAddrPort("[fd00:145::1]:4000")
	for id, tt := range []struct {
		name     string
		from, to netip.AddrPort
		vlans    []uint16
	}{
		{"IPv4", client(0, "").From, udpVIP, nil},
		{"VLAN", client(1, "").From, udpVIP, []uint16{7}},
		{"IPv6", from6, netip.AddrPortFrom(vip6, udpVIP.Port()), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := planetest.Frame{Dst: ownMAC, Src: net.HardwareAddr{2, 0, 0, 0, 9, 9}, From: tt.from, To: tt.to, VLANs: tt.vlans, Protocol: dataplane.UDP, ID: uint32(100 + id), Payload: 64}
			first, middle, last := f, f, f
			first.MF = true
			middle.MF, middle.Offset = true, 9
			last.Offset = 17

			// Without a lease nothing is kept: what comes is dropped.
			if err := p.Renew(0); err != nil {
				t.Fatal(err)
			}
			e.say(last.Bytes())
			time.Sleep(3 * earlyLook)
			if err := p.Renew(dataplane.Unlimited); err != nil {
				t.Fatal(err)
			}
			before := sentOn(t, p)
			e.say(middle.Bytes())
			e.say(last.Bytes())
			stray := last
			stray.ID += 1000
			e.say(stray.Bytes())
			if i := e.hears(20*earlyLook, to(1, last.Bytes()), to(2, last.Bytes())); i >= 0 {
				t.Fatal("a fragment went on before its first one")
			}
			e.say(first.Bytes())
			server := 1 + e.hears(5*time.Second, to(1, first.Bytes()), to(2, first.Bytes()))
			if server == 0 {
				t.Fatal("the first fragment did not go on")
			}
			left := [][]byte{to(server, middle.Bytes()), to(server, last.Bytes())}
			for len(left) > 0 {
				i := e.hears(5*time.Second, left...)
				if i < 0 {
					t.Fatalf("%d fragments did not come to the server of their first", len(left))
				}
				left = append(left[:i], left[i+1:]...)
			}
			await(t, "both are counted", func() bool { return sentOn(t, p)-before == 2 })
			if i := e.hears(2*earlyWait, to(1, stray.Bytes()), to(2, stray.Bytes())); i >= 0 {
				t.Error("a fragment without a first one went on")
			}
		})
	}
}

// The same where the server is behind another interface than the client, or the
// same one.
func TestFragmentsInAnyOrderOfSeveralInterfaces(t *testing.T) {
	l := newTwoNICs(t)
	p := serving(t, l.config(t), spread(false))
	for id, tt := range []struct {
		from string
		mac  net.HardwareAddr
		port uint16
		to   string
	}{
		{"sysfara", macA, portB, "sysfarb"}, {"sysfarb", macB, portA, "sysfara"}, {"sysfara", macA, portA, "sysfara"},
	} {
		into, had, sent := l.socket(tt.from), l.received(tt.to), sentOn(t, p)
		first := toward(tt.mac, tt.port, "S")
		first.ID, first.Payload, first.MF = uint32(200+id), 64, true
		last := first
		last.MF, last.Offset = false, 11
		early := reasons(t, p)["fragment"]
		if err := into(last.Bytes()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the last fragment did not come early", func() bool { return reasons(t, p)["fragment"] == early+1 })
		if err := into(first.Bytes()); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("from %s to %s: a fragment was lost", tt.from, tt.to), func() bool {
			return l.received(tt.to) == had+2 && sentOn(t, p) == sent+1
		})
	}
}

// A server behind a tunnel gets what was early through it, as what was not.
func TestFragmentsInAnyOrderThroughATunnel(t *testing.T) {
	for _, forward := range []dataplane.Forward{dataplane.IPIP, dataplane.GUE} {
		t.Run(forward.String(), func(t *testing.T) {
			l := newLAN(t)
			cfg := l.config(t)
			cfg.Mode = ModeGeneric
			p := open(t, cfg)
			s := twoServices(1)
			s.Services[1].Servers = []dataplane.RealServer{through(1, forward)}
			apply(t, p, s)
			if err := p.Renew(dataplane.Unlimited); err != nil {
				t.Fatal(err)
			}
			e := newEar(t, l)
			first := client(0, "")
			first.To, first.Protocol, first.ID, first.Payload, first.MF = udpVIP, dataplane.UDP, 300, 64, true
			last := first
			last.MF, last.Offset = false, 9
			e.say(last.Bytes())
			await(t, "the last fragment came early", func() bool { return reasons(t, p)["fragment"] == 1 })
			e.say(first.Bytes())
			await(t, "it is counted", func() bool { return sentOn(t, p) == 1 })
			verdict, want, err := p.Program().Test(last.Bytes()) // now it is not early
			if err != nil || verdict != xdpTX || len(want) <= len(last.Bytes()) {
				t.Fatalf("verdict %d, %v\n%x", verdict, err, want)
			}
			plain := func(frame []byte) []byte { // without what differs each time
				frame = bytes.Clone(frame)
				copy(frame[18:], []byte{0, 0}) // ID and checksum of the outer header
				copy(frame[24:], []byte{0, 0})
				return frame
			}
			if !e.hearsOne(5*time.Second, func(heard []byte) bool {
				return len(heard) == len(want) && bytes.Equal(plain(heard), plain(want))
			}) {
				t.Errorf("it did not come as\n%x", want)
			}
		})
	}
}

// What is for a server behind a tunnel does not go to its next hop as it is.
func TestWayTo(t *testing.T) {
	img, mac := new(image), [6]uint8{2, 1, 0, 0, 0, 1}
	one := bpf.DirectorPort{Ifindex: 7}
	img.Ports[1].Ifindex = 9
	for id := range 6 {
		img.Servers[id].Service = 1
	}
	img.Servers[1].Mac = mac
	img.Far[2] = bpf.DirectorFar{Mac: mac, Via: uint16(viaPort) + 1}
	img.Far[3] = bpf.DirectorFar{Mac: mac, Via: uint16(viaNone)}
	img.Far[4], img.TunnelOf[4] = img.Far[2], 1
	img.Servers[5] = img.Servers[1]
	img.Servers[5].Service = 0
	for id, want := range []uint32{1: 7, 2: 9, 3: 0, 4: 0, 5: 0} {
		to, by, ok := wayTo(img, uint16(id), one)
		if ok != (want != 0) || ok && (to != mac || by.Ifindex != want) {
			t.Errorf("server %d: %x by interface %d, %v; want %d", id, to, by.Ifindex, ok, want)
		}
	}
}

func sentOn(t *testing.T, p *Plane) uint64 {
	t.Helper()
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st.Reasons[fragmentSentOn]
}

// FuzzDecodeEarly: whatever stands in the buffer, it is a frame within it or none.
func FuzzDecodeEarly(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, earlyHead+64))
	whole := make([]byte, earlyHead+64)
	whole[earlyHead-8] = 60
	f.Add(whole)
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, ok := decodeEarly(raw)
		if ok && (len(got.frame) < 14 || len(got.frame) > len(raw)-earlyHead) {
			t.Errorf("a frame of %d bytes in %d", len(got.frame), len(raw))
		}
	})
}
