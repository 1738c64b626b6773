package xdp

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/planetest"
)

// TestMain lets the test binary be the daemon that dies; see daemonToKill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SYSTOLE_TEST_DAEMON"); dir != "" {
		if err := daemonToKill(dir, os.Getenv("SYSTOLE_TEST_DEV"), os.Getenv("SYSTOLE_TEST_LEASE")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// Addresses of daemonToKill beside those of its services: an active one, and one
// that was let go.
var killed6, drained = netip.MustParseAddr("fd00:145::101"), netip.MustParseAddr("192.168.145.109")

// daemonToKill holds a plane with a lease, renews it from two threads all the
// time, and has a socket, which it names on its standard output.
func daemonToKill(pins, dev, lease string) error {
	p, err := Open(Config{Interface: dev, PinDir: pins, Flows: testFlows, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	s := twoServices(1)
	s.VIPs = append(s.VIPs, dataplane.VIP{Addr: killed6, Role: dataplane.Active}, dataplane.VIP{Addr: drained, Role: dataplane.Draining})
	if _, err := p.Apply(s); err != nil {
		return err
	}
	term, err := time.ParseDuration(lease)
	if err != nil {
		term = dataplane.Unlimited
	}
	if err := p.Renew(term); err != nil {
		return err
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	for range 2 {
		go func() {
			for {
				if err := p.Renew(term); err != nil {
					panic(err)
				}
			}
		}()
	}
	fmt.Println(c.LocalAddr())
	select {}
}

// startDaemon runs daemonToKill in the test's namespace.
func (l lan) startDaemon(t *testing.T, lease string) (proc *exec.Cmd, socket string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	proc = exec.Command(self)
	proc.Env = append(os.Environ(), "SYSTOLE_TEST_DAEMON="+l.config(t).PinDir, "SYSTOLE_TEST_DEV="+l.dev, "SYSTOLE_TEST_LEASE="+lease)
	proc.Stderr = t.Output()
	out, err := proc.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Start(); err != nil { // inherits the namespace of this thread
		t.Fatal(err)
	}
	t.Cleanup(func() {
		proc.Process.Kill()
		proc.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "127.0.0.1:") {
		t.Fatalf("daemon says %q, %v", line, err)
	}
	return proc, strings.TrimSpace(line)
}

// lo brings the loopback interface of the test's namespace up.
func lo(t *testing.T) {
	t.Helper()
	dev, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		t.Fatal(err)
	}
}

// leaseUntil reads the end of the lease from the pinned map, in jiffies.
func (l lan) leaseUntil(t *testing.T) uint64 {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(l.config(t).PinDir, "*", "v*", bpf.DirectorMapState))
	if err != nil || len(paths) != 1 {
		t.Fatalf("pinned state: %q, %v", paths, err)
	}
	m, err := ebpf.LoadPinnedMap(paths[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	view, err := mapArray[bpf.DirectorState](m)
	if err != nil {
		t.Fatal(err)
	}
	defer view.unmap()
	return view.elements[0].LeaseUntil
}

// A killed daemon's lease has ended before a datagram to it is refused, though
// it was renewing it as it died.
func TestLeaseEndsBeforeSocketsOfKilledDaemon(t *testing.T) {
	l := newLAN(t)
	lo(t)
	for round := range 8 {
		proc, socket := l.startDaemon(t, "1h")
		if l.leaseUntil(t) == 0 {
			t.Fatal("the lease is not armed")
		}
		c, err := net.Dial("udp4", socket)
		if err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		if err := proc.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for {
			// Loopback: the refusal is there when the next call is made.
			if _, err := c.Write([]byte("beat")); errors.Is(err, syscall.ECONNREFUSED) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if time.Since(killed) > 10*time.Second {
				t.Fatal("never refused")
			}
		}
		if until := l.leaseUntil(t); until != 0 {
			t.Fatalf("round %d: refused %v after the kill with a lease until %d", round, time.Since(killed), until)
		}
		c.Close()
		proc.Wait()
	}
}

// With no live peer the lease is unlimited, and the data plane goes on alone.
func TestUnlimitedLeaseOutlivesKilledDaemon(t *testing.T) {
	l := newLAN(t)
	lo(t)
	proc, _ := l.startDaemon(t, "unlimited")
	proc.Process.Kill()
	proc.Wait()
	if until := l.leaseUntil(t); until != unlimitedTicks {
		t.Errorf("lease until %d", until)
	}
}

// announcement says that mac has the address: by ARP (op 1 or 2), or as a
// neighbour advertisement to all nodes.
func announcement(t *testing.T, mac net.HardwareAddr, addr netip.Addr, op uint16) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP}
	parts := []gopacket.SerializableLayer{eth, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: mac, SourceProtAddress: addr.AsSlice(), DstHwAddress: mac, DstProtAddress: addr.AsSlice(),
	}}
	if addr.Is6() {
		eth.EthernetType, eth.DstMAC = layers.EthernetTypeIPv6, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
		ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: addr.AsSlice(), DstIP: net.ParseIP("ff02::1")}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
		if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		parts = []gopacket.SerializableLayer{eth, ip, icmp, &layers.ICMPv6NeighborAdvertisement{
			Flags: 0x20, TargetAddress: addr.AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}},
		}}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// With no live peer the lease of a dead daemon does not end, until another
// director announces an address of it as its own: there are not two owners.
func TestUnlimitedLeaseEndsWithAnotherOwner(t *testing.T) {
	another := net.HardwareAddr{2, 0, 0, 0, 7, 7}
	vip4 := client(0, "").To.Addr()
	for _, tt := range []struct {
		name string
		addr netip.Addr
		op   uint16
	}{{"ARP request", vip4, 1}, {"ARP reply", vip4, 2}, {"advertisement", killed6, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t)
			lo(t)
			e := newEar(t, l)
			proc, _ := l.startDaemon(t, "unlimited")
			stays := func(what string, frame []byte) {
				t.Helper()
				e.say(frame)
				if until := l.leaseUntil(t); until != unlimitedTicks {
					t.Fatalf("lease until %d after %s", until, what)
				}
			}
			stays("an announcement to a living daemon", announcement(t, another, tt.addr, tt.op))
			proc.Process.Kill()
			proc.Wait()
			stays("an announcement of our own", announcement(t, ownMAC, tt.addr, tt.op))
			stays("one of another address", announcement(t, another, netip.MustParseAddr("192.168.145.77"), 1))
			stays("one of an address that was let go", announcement(t, another, drained, 1))
			e.say(announcement(t, another, tt.addr, tt.op))
			await(t, "the lease ends", func() bool { return l.leaseUntil(t) == 0 })
		})
	}
}

// The program of a killed daemon stays and drops what comes for its addresses.
func TestKilledDaemonsProgramStaysAndDrops(t *testing.T) {
	l := newLAN(t)
	lo(t)
	proc, _ := l.startDaemon(t, "1h")
	proc.Process.Kill()
	proc.Wait()
	if l.attached(t) == 0 {
		t.Fatal("the program died with its daemon")
	}
	p := open(t, l.config(t))
	on := sender(t, p.Program(), ownMAC)
	for _, flags := range []string{"S", "A"} {
		if got := on(client(0, flags)).Verdict; got != planetest.Dropped {
			t.Errorf("%s: %s", flags, got)
		}
	}
}
