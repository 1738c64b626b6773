package xdp

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/dataplane"
)

var macBond = net.HardwareAddr{2, 0, 0, 0, 0, 0xe}

// bonded makes a bond of two veth devices. Many kernels have no bonding, but the
// machine of test/vm has.
func (l *twoNICs) bonded(mode netlink.BondMode) {
	t := l.t
	t.Helper()
	bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: "sysbond", HardwareAddr: macBond})
	bond.Mode, bond.Miimon = mode, 10
	if err := netlink.LinkAdd(bond); errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("SYSTOLE_VM") != "1" {
		t.Skip("this kernel has no bonding driver")
	} else if err != nil {
		t.Fatal(err)
	}
	l.pair("sysmem1", "sysout1", net.HardwareAddr{2, 0, 0, 0, 1, 1})
	l.pair("sysmem2", "sysout2", net.HardwareAddr{2, 0, 0, 0, 1, 2})
	for _, name := range []string{"sysmem1", "sysmem2"} {
		l.enslave(name)
	}
	if err := netlink.LinkSetUp(bond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bond does not come up", func() bool {
		n, err := findNIC("sysbond")
		return err == nil && n.live && len(n.members) == 2 && n.members[0].live && n.members[1].live
	})
}

func (l *twoNICs) enslave(name string) {
	l.t.Helper()
	dev, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetDown(dev)
	}
	bond, e := netlink.LinkByName("sysbond")
	if err = errors.Join(err, e); err == nil {
		err = errors.Join(netlink.LinkSetMaster(dev, bond), netlink.LinkSetUp(dev))
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// A bond alone: its master has the program if its mode allows, else its members,
// and frames come back out of it in either case.
func TestBond(t *testing.T) {
	for _, tt := range []struct {
		name    string
		mode    netlink.BondMode
		members []string // that have the program
	}{
		{"active backup", netlink.BOND_MODE_ACTIVE_BACKUP, nil},
		{"round robin", netlink.BOND_MODE_BALANCE_RR, nil},
		{"xor", netlink.BOND_MODE_BALANCE_XOR, nil},
		{"broadcast", netlink.BOND_MODE_BROADCAST, []string{"sysmem1", "sysmem2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTwoNICs(t)
			l.bonded(tt.mode)
			cfg := l.lan.config(t)
			cfg.Interface = "sysbond"
			p := open(t, cfg)
			i := p.Info()
			if i.Mode != ModeNative || len(i.Interfaces) != 1 || !slices.Equal(i.Interfaces[0].Members, tt.members) {
				t.Fatalf("Info() = %+v", i)
			}
			if (i.Reason != "") != (tt.members != nil) {
				t.Errorf("Info() = %+v", i)
			}
			s := spread(false)
			for i := range s.Services {
				for j := range s.Services[i].Servers {
					s.Services[i].Servers[j].Interface = "sysbond"
				}
			}
			apply(t, p, s)
			if err := p.Renew(dataplane.Unlimited); err != nil {
				t.Fatal(err)
			}
			into := l.socket("sysout1")
			const n = 20
			for range n {
				if err := into(toward(macBond, portA, "S").Bytes()); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "frames did not come back", func() bool { return l.received("sysout1")+l.received("sysout2") == n })
			if tt.members != nil && l.received("sysout2") != 0 {
				t.Error("frames left by another member than the one that got them")
			}

			// The same after a crash.
			p.crash(t)
			p = open(t, cfg)
			if again := p.Info(); !slices.Equal(again.Interfaces[0].Members, tt.members) || again.Mode != ModeNative {
				t.Errorf("Info() = %+v after a restart", again)
			}
			if err := into(toward(macBond, portA, "A").Bytes()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the flow was lost", func() bool { return l.received("sysout1")+l.received("sysout2") == n+1 })
			if p.Stale() {
				t.Error("stale although nothing has changed")
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"sysbond", "sysmem1", "sysmem2"} {
				if n, err := findNIC(name); err != nil || n.xdp.Attached {
					t.Errorf("%s: still attached (%v)", name, err)
				}
			}
		})
	}
}

// A bond beside another NIC, with traffic from the one to the other.
func TestBondAndAnother(t *testing.T) {
	for _, mode := range []netlink.BondMode{netlink.BOND_MODE_ACTIVE_BACKUP, netlink.BOND_MODE_BROADCAST} {
		t.Run(mode.String(), func(t *testing.T) {
			l := newTwoNICs(t)
			l.bonded(mode)
			cfg := l.config(t)
			cfg.Interfaces = []string{"sysnica", "sysbond"}
			p := open(t, cfg)
			s := spread(false)
			for i := range s.Services {
				for j := range s.Services[i].Servers {
					if r := &s.Services[i].Servers[j]; r.Interface == "sysnicb" {
						r.Interface = "sysbond"
					}
				}
			}
			apply(t, p, s)
			if err := p.Renew(dataplane.Unlimited); err != nil {
				t.Fatal(err)
			}
			intoA, intoBond := l.socket("sysfara"), l.socket("sysout1")
			const n = 20
			for range n {
				if err := errors.Join(intoA(toward(macA, portB, "S").Bytes()), intoBond(toward(macBond, portA, "S").Bytes())); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "frames were lost", func() bool {
				return l.received("sysfara") == n && l.received("sysout1")+l.received("sysout2") == n
			})
			st, err := p.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if a, b := st.Interfaces["sysnica"], st.Interfaces["sysbond"]; a.InPackets != n || b.InPackets != n || a.OutPackets != n || b.OutPackets != n {
				t.Errorf("counted %+v and %+v", a, b)
			}
		})
	}
}

// A bond without members in a mode that has no XDP gets generic, and why.
func TestBondGeneric(t *testing.T) {
	l := newTwoNICs(t)
	l.bonded(netlink.BOND_MODE_BROADCAST)
	for _, name := range []string{"sysmem1", "sysmem2"} {
		dev, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetNoMaster(dev)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := l.lan.config(t)
	cfg.Interface = "sysbond"
	p := open(t, cfg)
	if i := p.Info(); i.Mode != ModeGeneric || !strings.Contains(i.Reason, "sysbond has no members") {
		t.Errorf("Info() = %+v", i)
	}
	l.enslave("sysmem1")
	apply(t, p, spread(false))
	if p.Stale() {
		t.Error("stale although Apply has seen the member")
	}
}
