package netlab

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/safchain/ethtool"
)

// NativeXDP prepares the host's cable for a native XDP program on eth0 that
// sends frames back out (XDP_TX): a veth drops those unless its peer has NAPI,
// which the peer gets from an XDP program of its own. So the switch port gets
// one that passes everything.
//
// Whoever sends to that host must have DisableTxChecksum: a frame returned by
// XDP_TX has lost the note that its checksum is still to be filled in, so the
// receiver would drop it.
func (h *Host) NativeXDP() error {
	l := h.lab
	port, err := l.sw.nl.LinkByName(h.Name)
	if err != nil {
		return fmt.Errorf("switch port %s: %w", h.Name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	// The link goes with the file descriptor: nothing is pinned.
	var at link.Link
	err = l.sw.do(func() error {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "netlab_pass",
			Type: ebpf.XDP,
			// asm: return XDP_PASS
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
			AttachType:   ebpf.AttachXDP,
			License:      "MIT",
		})
		if err != nil {
			return err
		}
		defer prog.Close() // the link holds it
		at, err = link.AttachXDP(link.XDPOptions{
			Program:   prog,
			Interface: port.Attrs().Index,
			Flags:     link.XDPDriverMode,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("XDP program on switch port %s: %w", h.Name, err)
	}
	l.links = append(l.links, at)
	return nil
}

// DisableTxChecksum makes the host fill in checksums itself, as for a NIC that
// cannot (ethtool -K eth0 tx off); segmentation off-load goes with it. See
// NativeXDP.
func (h *Host) DisableTxChecksum() error {
	return h.Do(func() error {
		e, err := ethtool.NewEthtool()
		if err != nil {
			return fmt.Errorf("ethtool: %w", err)
		}
		defer e.Close()
		if err := e.Change(NIC, map[string]bool{"tx-checksum-ip-generic": false}); err != nil {
			return fmt.Errorf("ethtool -K %s tx off in %s: %w", NIC, h.Name, err)
		}
		return nil
	})
}
