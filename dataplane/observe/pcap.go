package observe

import (
	"fmt"
	"io"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// PcapWriter writes packets as pcapng, which tcpdump -r, tshark and Wireshark
// read. A packet is one or two frames there: as it came in and as it left, by
// the direction in the flags of the block. The verdict is in the block's
// options (epb_verdict, type Linux XDP), and in words in its comment.
type PcapWriter struct {
	w *pcapgo.NgWriter
}

// NewPcapWriter begins a file of frames of one interface, snap bytes of each at
// most; application is who wrote it, for the file's reader.
func NewPcapWriter(w io.Writer, ifname, application string, snap int) (*PcapWriter, error) {
	intf := pcapgo.DefaultNgInterface
	intf.Name, intf.LinkType, intf.SnapLength = ifname, layers.LinkTypeEthernet, uint32(snap)
	opts := pcapgo.DefaultNgWriterOptions
	opts.SectionInfo.Application = application
	ng, err := pcapgo.NewNgWriterInterface(w, intf, opts)
	if err != nil {
		return nil, fmt.Errorf("pcapng: %w", err)
	}
	return &PcapWriter{ng}, nil
}

// Write writes the frames of p that were kept; one that was not sent has no
// frame that left.
func (w *PcapWriter) Write(p *Packet) error {
	comment := p.Outcome()
	queue := uint32(p.Queue)
	write := func(data []byte, length int, flags pcapgo.NgEpbFlags) error {
		if len(data) == 0 {
			return nil
		}
		ci := gopacket.CaptureInfo{Timestamp: p.At, CaptureLength: len(data), Length: length}
		err := w.w.WritePacketWithOptions(ci, data, pcapgo.NgPacketOptions{
			Comments: []string{comment}, Flags: &flags, Queue: &queue,
			Verdicts: []pcapgo.NgEpbVerdict{{Type: pcapgo.NgEpbVerdictTypeLinuxeBPFXDP, Data: verdictBytes(p.Verdict)}},
		})
		if err != nil {
			return fmt.Errorf("pcapng: %w", err)
		}
		return nil
	}
	if err := write(p.In, p.InLength, pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}); err != nil {
		return err
	}
	if !p.Verdict.Sent() {
		return nil
	}
	return write(p.Out, p.OutLength, pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionOutbound})
}

// verdictBytes is the option's 64-bit value, in the file's byte order.
func verdictBytes(v Verdict) []byte {
	return []byte{byte(v), 0, 0, 0, 0, 0, 0, 0}
}

// Flush writes out what is buffered.
func (w *PcapWriter) Flush() error { return w.w.Flush() }

// Outcome is a packet's verdict and why, on one line, as in "pass: no_flow" or
// "tx to 192.168.145.200 (scheduled)".
func (p *Packet) Outcome() string {
	out := p.Verdict.String()
	if p.Server.IsValid() {
		out += " to " + p.Server.String()
	}
	if p.Scheduled {
		out += " (scheduled)"
	}
	if len(p.Reasons) > 0 {
		out += ": " + strings.Join(p.Reasons, ", ")
	}
	return out
}
