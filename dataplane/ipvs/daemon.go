package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"systole/dataplane"
)

// DaemonRole is what a sync daemon does (linux/ip_vs.h, IP_VS_STATE_*).
type DaemonRole uint8

// The roles. A machine may have one daemon of each.
const (
	SyncMaster DaemonRole = 1 // sends the connections of this machine
	SyncBackup DaemonRole = 2 // takes in those of others
)

// String is the role as ipvsadm has it: "master", "backup".
func (r DaemonRole) String() string {
	switch r {
	case SyncMaster:
		return "master"
	case SyncBackup:
		return "backup"
	}
	return fmt.Sprintf("role-%d", uint8(r))
}

// The kernel's choices where a Daemon leaves them to it.
const (
	DefaultSyncPort = 8848
	DefaultSyncTTL  = 1
)

// DefaultSyncGroup is the multicast group of the sync protocol.
var DefaultSyncGroup = netip.AddrFrom4([4]byte{224, 0, 0, 81})

// Daemon is a thread of the kernel that speaks the IPVS sync protocol: it
// carries connections from the director that has them to another.
//
// A master sends a connection when it has seen sync_threshold packets of it
// (sysctl net.ipv4.vs.sync_threshold, by default the third): with gate and an
// idle client that is never. "2 50" sends it when it is established.
type Daemon struct {
	Role      DaemonRole `json:"role"`
	Interface string     `json:"interface"`
	// SyncID tells clusters on one network apart; a backup with 0 hears all.
	SyncID uint8      `json:"sync_id"`
	Group  netip.Addr `json:"group,omitzero"`    // multicast, IPv4 or IPv6; zero: 224.0.0.81
	Port   uint16     `json:"port,omitempty"`    // UDP; 0: 8848
	TTL    uint8      `json:"ttl,omitempty"`     // 0: 1
	MaxLen uint16     `json:"max_len,omitempty"` // of a datagram's payload; 0: what the interface carries
}

func (d *Daemon) check() error {
	switch {
	case d.Role != SyncMaster && d.Role != SyncBackup:
		return fmt.Errorf("%s is neither master nor backup", d.Role)
	case d.Interface == "" || len(d.Interface) > unix.IFNAMSIZ-1:
		return fmt.Errorf("%q is no interface", d.Interface)
	case d.Group.IsValid() && (!d.Group.IsMulticast() || d.Group.Zone() != ""):
		return fmt.Errorf("group %s is no multicast address: the kernel's daemon knows no other", d.Group)
	}
	return nil
}

// StartDaemon starts a sync daemon. One of the same role that runs already
// must be stopped first, and the error says so.
func (p *Plane) StartDaemon(d Daemon) error {
	wrap := func(err error) error { return fmt.Errorf("%s sync daemon: %w", d.Role, err) }
	if err := d.check(); err != nil {
		return wrap(err)
	}
	return p.with(func() error {
		switch err := p.kernel.startDaemon(&d); {
		case errors.Is(err, unix.EEXIST):
			return wrap(fmt.Errorf("one runs already: stop it first (ipvsadm --stop-daemon %s): %w", d.Role, err))
		case errors.Is(err, unix.ENODEV):
			return wrap(fmt.Errorf("there is no interface %s, or it is down: %w", d.Interface, err))
		case errors.Is(err, unix.EINVAL):
			return wrap(fmt.Errorf("the kernel refuses it: it goes not together with servers of the other address family than their service's: %w", err))
		case err != nil:
			return wrap(err)
		}
		p.log.Info("ipvs", "sync daemon", d.Role.String(), "interface", d.Interface, "sync_id", d.SyncID)
		return nil
	})
}

// StopDaemon stops the sync daemon of that role. That none runs is no error.
func (p *Plane) StopDaemon(r DaemonRole) error {
	return p.with(func() error {
		if err := p.kernel.stopDaemon(r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("%s sync daemon: stopping it: %w", r, err)
		}
		return nil
	})
}

// Daemons are the sync daemons that run, whoever started them, with what the
// kernel chose for them.
func (p *Plane) Daemons() ([]Daemon, error) {
	var out []Daemon
	err := p.with(func() (err error) {
		out, err = p.kernel.daemons()
		return err
	})
	return out, err
}

// Timeouts are the machine's, of all services: how long the kernel remembers a
// connection after its last packet.
func (p *Plane) Timeouts() (dataplane.Timeouts, error) {
	var t dataplane.Timeouts
	err := p.with(func() (err error) {
		t, err = p.kernel.timeouts()
		return err
	})
	return t, err
}

// SetTimeouts changes the machine's timeouts, in whole seconds up to 24 days;
// those that are zero stay.
func (p *Plane) SetTimeouts(t dataplane.Timeouts) error {
	for _, d := range []time.Duration{t.TCP, t.TCPFin, t.UDP} {
		if d < 0 || d%time.Second != 0 || d > 24*24*time.Hour {
			return fmt.Errorf("a timeout of %s: IPVS counts whole seconds, up to 24 days", d)
		}
	}
	return p.with(func() error { return p.kernel.setTimeouts(t) })
}

// Zero sets the counters of our services and their servers to zero.
func (p *Plane) Zero() error {
	return p.with(func() error {
		for key := range p.ours {
			if err := p.kernel.zero(&Service{Key: key}); err != nil {
				return fmt.Errorf("zeroing the counters of %s: %w", key, err)
			}
		}
		return nil
	})
}

// with runs f alone, unless the plane is closed.
func (p *Plane) with(f func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	return f()
}
