package failover

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"systole/control/realserver"
	"systole/test/built"
	"systole/test/need"
	"systole/test/netlab"
	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

const (
	domain = "www.a.com"
	ethARP = 0x0806
)

var (
	vip    = netip.MustParseAddr("192.168.145.101")
	daemon string // the Systole binary
)

func TestMain(m *testing.M) { os.Exit(built.Run(m, &daemon)) }

// lab is two directors, a client and a real server on one switch.
type lab struct {
	testing.TB
	*netlab.Lab
	client *netlab.Host
	nodes  [2]*netlab.Host
	arp    *arpWatch
	stuck  int // how often the pair did not find together
}

func newLab(tb testing.TB, prefix string) *lab {
	tb.Helper()
	need.Root(tb, "network namespaces")
	n, err := netlab.New(prefix)
	if err != nil {
		tb.Fatal(err)
	}
	l := &lab{TB: tb, Lab: n}
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Errorf("the lab left something behind: %v", err)
		}
	})
	l.client = l.host("client", "192.168.145.1/24")
	l.must(l.client.DisableTxChecksum())
	server := l.host("server1", "192.168.145.200/24")
	l.must(server.Do(func() error { _, err := realserver.Setup(vip, realserver.Loopback); return err }))
	l.serve(server)
	for i := range l.nodes {
		l.nodes[i] = l.host(fmt.Sprintf("node%d", i+1), fmt.Sprintf("192.168.145.%d/24", 10+i))
	}
	l.arp = l.watchARP()
	return l
}

func (l *lab) host(name, addr string) *netlab.Host {
	l.Helper()
	h, err := l.AddHost(name, netip.MustParsePrefix(addr))
	l.must(err)
	return h
}

// serve runs a name server on a host, which the probes ask.
func (l *lab) serve(h *netlab.Host) {
	l.Helper()
	dns, err := standin.StartDNS(h, domain, vip)
	l.must(err)
	l.Cleanup(dns.Stop)
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// until polls until cond holds.
func (l *lab) until(what string, patience time.Duration, cond func() bool) {
	l.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// probe asks the virtual address a question each millisecond.
func (l *lab) probe() *probe.UDP {
	l.Helper()
	u, err := probe.StartUDP(probe.UDPConfig{Host: l.client, Target: netip.AddrPortFrom(vip, 53), Name: domain})
	l.must(err)
	l.served(u, time.Now(), patience)
	return u
}

// served waits until a question sent after t is answered.
func (l *lab) served(u *probe.UDP, t time.Time, patience time.Duration) {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := u.Served(ctx, t); err != nil {
		l.Fatalf("not served again within %v: %v", patience, err)
	}
}

// arpWatch is what the client hears of who has the virtual address.
type arpWatch struct {
	mu   sync.Mutex
	seen []announcement
}

type announcement struct {
	at  time.Time
	mac string
}

// watchARP listens for announcements: broadcast ARP of either form that says
// who has the virtual address.
func (l *lab) watchARP() *arpWatch {
	l.Helper()
	w := new(arpWatch)
	c, err := l.client.ListenRaw(ethARP)
	l.must(err)
	var done sync.WaitGroup
	l.Cleanup(func() {
		c.Close()
		done.Wait()
	})
	addr := vip.As4()
	done.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, _, err := c.ReadFrom(buf)
			at := time.Now()
			if err != nil {
				return
			}
			f := buf[:n]
			if n < 14+28 || binary.BigEndian.Uint16(f[12:]) != ethARP || f[0]&1 == 0 || !bytes.Equal(f[28:32], addr[:]) {
				continue
			}
			w.mu.Lock()
			w.seen = append(w.seen, announcement{at, net.HardwareAddr(f[22:28]).String()})
			w.mu.Unlock()
		}
	})
	return w
}

// first is the first announcement of a MAC address (any, if empty) after t.
func (w *arpWatch) first(t time.Time, mac string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.seen {
		if a.at.After(t) && (mac == "" || a.mac == mac) {
			return a.at, true
		}
	}
	return time.Time{}, false
}

// announced waits for the first announcement of node i after t.
func (l *lab) announced(t time.Time, i int, patience time.Duration) time.Duration {
	l.Helper()
	var at time.Time
	l.until(l.nodes[i].Name+" announces itself", patience, func() (ok bool) {
		at, ok = l.arp.first(t, l.nodes[i].MAC.String())
		return ok
	})
	return at.Sub(t)
}
