package xdp

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// nic is what we need to know of an interface.
type nic struct {
	name  string
	index int
	mac   net.HardwareAddr
	xdp   netlink.LinkXdp // what is attached now

	bond    bool
	members []nic // of a bond, by their index
	active  int   // index of a bond's member that sends, if one alone does
	live    bool  // up, with a carrier
}

// errNoNIC is wrapped by findNIC if there is no such interface.
var errNoNIC = errors.New("there is none of this name")

func findNIC(name string) (nic, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nic{}, unavailable("interface %s: %w: %w", name, errNoNIC, err)
	}
	if err != nil {
		return nic{}, unavailable("interface %s: %w", name, err)
	}
	n := nicOf(l)
	if n.bond {
		if n.members, err = membersOf(n); err != nil {
			return nic{}, unavailable("members of bond %s: %w", name, err)
		}
	}
	return n, checkOwn(name, n.mac)
}

func nicOf(l netlink.Link) nic {
	a := l.Attrs()
	n := nic{name: a.Name, index: a.Index, mac: a.HardwareAddr}
	const up = unix.IFF_UP | unix.IFF_RUNNING
	n.live = a.RawFlags&up == up
	if a.Xdp != nil {
		n.xdp = *a.Xdp
	}
	if b, ok := l.(*netlink.Bond); ok {
		n.bond, n.active = true, max(b.ActiveSlave, 0)
	}
	return n
}

// mode is how the program that is attached now is attached.
func (n nic) mode() string {
	if n.xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		return ModeGeneric
	}
	return ModeNative
}

// attachment is a program on an interface.
type attachment struct {
	link   link.Link
	name   string // of the interface: the port's, or a bond's member's
	index  int
	mode   string
	reason string // why not native
}

// attach puts prog on n where nothing of ours is.
func attach(n nic, prog *ebpf.Program, mode string) (*attachment, error) {
	try := func(flags link.XDPAttachFlags) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: prog, Interface: n.index, Flags: flags})
	}
	if n.xdp.Attached {
		return nil, foreign(n)
	}
	a := &attachment{name: n.name, index: n.index, mode: ModeNative}
	var err error
	if mode != ModeGeneric {
		if a.link, err = try(link.XDPDriverMode); err == nil {
			return a, nil
		}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			return nil, foreign(n)
		}
		if mode == ModeNative {
			return nil, unavailable("native XDP on %s: %w: %s; mode: auto or generic works with any driver", n.name, err, whyNotNative(err))
		}
		a.reason = fmt.Sprintf("native XDP on %s: %v: %s", n.name, err, whyNotNative(err))
	} else {
		a.reason = "configured"
	}
	a.mode = ModeGeneric
	if a.link, err = try(link.XDPGenericMode); err != nil {
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			return nil, foreign(n)
		}
		return nil, unavailable("generic XDP on %s: %w", n.name, err)
	}
	return a, nil
}

// whyNotNative guesses what drivers mean by their errors.
func whyNotNative(err error) string {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return "the driver has no XDP"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.E2BIG):
		return "the driver refuses it as configured (an MTU above one page, LRO, too few queues)"
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOSPC):
		return "the driver has too few queues or too little memory"
	}
	return "the driver refuses it"
}

// adopt takes over the link that a predecessor pinned at path. With update the
// program is replaced in one step, otherwise the old one stays for now. It
// returns nil without error if there is no link, or none that is any use: its
// interface has gone, or the operator wants another mode.
func adopt(n nic, path string, prog *ebpf.Program, mode string, update bool, log *slog.Logger) (*attachment, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable("link of a predecessor at %s: %w", path, err)
	}
	a := &attachment{link: l, name: n.name, index: n.index, mode: n.mode()}
	switch index, err := linkIndex(l); {
	case err != nil:
		err = unavailable("link of a predecessor at %s: %w", path, err)
		return nil, errors.Join(err, l.Close())
	case index != n.index:
		log.Info("the interface is not the one a predecessor was attached to", "interface", n.name, "old_index", index, "index", n.index)
		return nil, a.detach()
	case mode != ModeAuto && mode != a.mode:
		log.Warn("detaching to change the XDP mode: packets go to the kernel for a moment", "interface", n.name, "from", a.mode, "to", mode)
		return nil, a.detach()
	}
	if a.mode == ModeGeneric {
		a.reason = "so attached by a predecessor"
		if mode == ModeGeneric {
			a.reason = "configured"
		}
	}
	if update {
		if err := l.Update(prog); err != nil {
			return nil, errors.Join(unavailable("replace the program of a predecessor on %s: %w", n.name, err), l.Close())
		}
	}
	return a, nil
}

// linkIndex is the interface a link is on; 0 if that interface is gone.
func linkIndex(l link.Link) (int, error) {
	info, err := l.Info()
	if err != nil {
		return 0, err
	}
	x := info.XDP()
	if x == nil {
		return 0, errors.New("not an XDP link")
	}
	return int(x.Ifindex), nil
}

// gone tells whether the interface has been removed under the program.
func (a *attachment) gone() bool {
	index, err := linkIndex(a.link)
	return err != nil || index != a.index
}

// detach takes the program off the interface.
func (a *attachment) detach() error {
	return errors.Join(a.link.Unpin(), a.link.Close())
}
