package guest

import (
	"bufio"
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"systole/dataplane"
	"systole/dataplane/ipvs"
	"systole/dataplane/planetest"
)

// TestConformance is the contract of all planes, kept by the kernel's IPVS with
// real packets.
func TestConformance(t *testing.T) {
	planetest.Run(t, func(t *testing.T) planetest.Harness {
		w := newWire(t)
		for n := byte(1); n < 10; n++ { // the suite's servers
			neighbour(t, "lan", netip.AddrFrom4([4]byte{192, 168, 145, 10 + n}), net.HardwareAddr{2, 0, 0, 1, 0, n})
		}
		p, err := ipvs.Open(ipvs.Config{Log: slog.New(slog.DiscardHandler)})
		must(t, err)
		o := &owner{Plane: p, wire: w, has: map[netip.Addr]bool{vip: true}}
		t.Cleanup(func() { must(t, p.Close()) })
		return planetest.Harness{
			Plane: o, Own: own, Send: o.send, Carries: ipvs.Carries,
			Deviations: []planetest.Deviation{
				planetest.LostDrops, planetest.SynAckOpens, planetest.OwnNeighbours, planetest.NoPeers,
				planetest.OwnersOnly, planetest.LateCounts, planetest.PortKeepsServer,
				planetest.AddressOnly,
			},
		}
	})
}

// owner is a director on kernel IPVS: the machine has the addresses that are
// active, as the director sees to it.
type owner struct {
	*ipvs.Plane
	wire *wire
	has  map[netip.Addr]bool
	// delivered is what the machine has taken for itself, if counted is true.
	delivered uint64
	counted   bool
}

func (o *owner) Apply(s dataplane.Snapshot) (dataplane.Generation, error) {
	g, err := o.Plane.Apply(s)
	if err != nil {
		return g, err
	}
	lo := device(o.wire.T, "lo")
	addr := func(a netip.Addr) *netlink.Addr {
		return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	}
	want := map[netip.Addr]bool{}
	for _, v := range s.VIPs {
		if v.Role == dataplane.Active {
			want[v.Addr] = true
		}
	}
	for a := range o.has {
		if !want[a] {
			must(o.wire.T, netlink.AddrDel(lo, addr(a)))
		}
	}
	for a := range want {
		if !o.has[a] {
			must(o.wire.T, netlink.AddrAdd(lo, addr(a)))
		}
	}
	o.has = want
	return g, nil
}

// send shows the kernel a frame. It has passed if the machine was given it or
// refused it in its own name, or if it was never for the machine.
func (o *owner) send(f planetest.Frame) planetest.Outcome {
	if !o.counted {
		o.delivered, o.counted = delivered(o.wire.T), true
	}
	back := o.wire.send(f.Bytes())
	o.delivered++ // the echo behind it
	for _, b := range back {
		if to := net.HardwareAddr(b[:6]); !bytes.Equal(to, routerMAC) {
			return planetest.Outcome{Verdict: planetest.Forwarded, To: slices.Clone(to)}
		}
	}
	now := delivered(o.wire.T)
	taken := now > o.delivered
	o.delivered = now
	if taken || len(back) > 0 || !bytes.Equal(f.Dst, own) || !o.has[f.To.Addr()] {
		return planetest.Outcome{Verdict: planetest.Passed}
	}
	return planetest.Outcome{Verdict: planetest.Dropped}
}

// delivered is how many IPv4 packets the machine has taken for itself.
func delivered(t *testing.T) uint64 {
	t.Helper()
	f, err := os.Open("/proc/thread-self/net/snmp")
	must(t, err)
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if fields[0] != "Ip:" {
			continue
		}
		if i := slices.Index(names, "InDelivers"); i >= 0 {
			n, err := strconv.ParseUint(fields[i], 10, 64)
			must(t, err)
			return n
		}
		names = fields
	}
	t.Fatal("the kernel does not tell what it delivered")
	return 0
}
