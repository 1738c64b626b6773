package xdp

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// describe names a program that is somebody else's, as bpftool prog shows it.
func describe(id ebpf.ProgramID) string {
	what := fmt.Sprintf("another XDP program, id %d", id)
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return what
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return what
	}
	return fmt.Sprintf("another XDP program, %q (id %d, tag %s)", info.Name, id, info.Tag)
}

// foreign refuses an interface that carries the program of somebody else.
func foreign(n nic) error {
	// Read again: it may have come a moment ago.
	if fresh, err := findNIC(n.name); err == nil {
		n = fresh
	}
	what := "another XDP program"
	if id := ebpf.ProgramID(n.xdp.ProgId); id != 0 {
		what = describe(id)
	}
	return unavailable("interface %s carries %s: remove it (ip link set dev %s xdp off, or stop its owner), choose another interface, or set dataplane.evict", n.name, what, n.name)
}

// evict takes the program of somebody else off n. Until ours is attached
// packets go to the kernel.
func evict(n nic, log *slog.Logger) error {
	what := describe(ebpf.ProgramID(n.xdp.ProgId))
	failed := func(err error) error {
		return unavailable("interface %s carries %s, which cannot be removed: %w", n.name, what, err)
	}
	flags := unix.XDP_FLAGS_DRV_MODE
	if n.xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		flags = unix.XDP_FLAGS_SKB_MODE
	}
	dev, err := netlink.LinkByName(n.name)
	if err != nil {
		return failed(err)
	}
	err = netlink.LinkSetXdpFdWithFlags(dev, -1, flags)
	if errors.Is(err, unix.EBUSY) { // attached by a link
		err = detachLink(n)
	}
	if err != nil {
		return failed(err)
	}
	log.Warn("evicted "+what, "interface", n.name)
	return nil
}

// detachLink detaches the BPF link that holds the program on n; its owner keeps
// a link to nothing. The kernel does not tell in which network namespace a link
// is, so where several could be meant it is left to the operator.
func detachLink(n nic) error {
	var found link.Link
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil || info.Program != ebpf.ProgramID(n.xdp.ProgId) {
			continue
		}
		if x := info.XDP(); x == nil || int(x.Ifindex) != n.index {
			continue
		}
		if found != nil {
			return errors.Join(errors.New("several links of other network namespaces look the same"), found.Close())
		}
		found = it.Take()
	}
	if err := it.Err(); err != nil {
		return err
	}
	if found == nil {
		return errors.New("the link that holds it is not found")
	}
	return errors.Join(found.Detach(), found.Close())
}
