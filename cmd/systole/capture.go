package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"systole/control"
	"systole/control/api"
	"systole/dataplane/observe"
)

// packetFlags say which packets are wanted; capture and trace have them.
type packetFlags struct {
	Service string `help:"Only packets for this virtual service (192.168.145.101:80/tcp), or for any of an address." placeholder:"SERVICE"`
	Server  string `help:"Only packets that go to this real server." placeholder:"ADDRESS"`
	Count   int    `short:"c" help:"End after so many packets." placeholder:"N"`
}

type captureCmd struct {
	Write   string `short:"w" help:"File to write, as pcapng; - is standard output." default:"-" placeholder:"FILE"`
	Client  string `help:"Only packets of clients with this address, address and port, or prefix (10.0.0.0/8)." placeholder:"CLIENT"`
	Snaplen int    `short:"s" help:"Bytes of each frame to keep, at most 4096." default:"4096" placeholder:"BYTES"`
	Side    string `help:"Frames as they came in, as they left, or both: a forwarded packet is two frames then." enum:"both,in,out" default:"both" placeholder:"SIDE"`
	All     bool   `help:"Also packets that are left to the kernel, which tcpdump sees as well."`
	Rate    int    `help:"Packets per second and CPU at most; those above are counted as lost." default:"10000" placeholder:"N"`
	packetFlags
	socketFlag
}

// Help is what --help says below the flags' usage.
func (captureCmd) Help() string {
	return `XDP forwards frames before the kernel has seen them, so tcpdump on the director
shows nothing of them. This writes them as pcapng, which tcpdump -r, tshark and
Wireshark read. The comment of each frame says what became of it and which real
server got it.

While it runs, the director forwards with an observing copy of its program; at
the end, also when this command is killed, its own is back. Packets are never
held up: what cannot be written in time is lost to the capture alone, and counted.

    systole capture -w web.pcapng --service 192.168.145.101:80/tcp
    systole capture --client 10.0.0.1 | tcpdump -nr -`
}

func (c captureCmd) Run(ctx context.Context) error {
	if c.Count < 0 {
		return errors.New("--count cannot be negative")
	}
	if c.Write == "-" && isTerminal(os.Stdout) {
		return errors.New("a capture is no text: name a file with -w, or pipe it into tcpdump -nr -")
	}
	s, err := statusCmd{socketFlag: c.socketFlag}.get(ctx)
	if err != nil {
		return err
	}
	out := os.Stdout
	if c.Write != "-" {
		if out, err = os.Create(c.Write); err != nil {
			return err
		}
	}
	err = c.capture(ctx, out, os.Stderr, xdpInterface(s))
	if out != os.Stdout {
		err = errors.Join(err, out.Close())
	}
	return err
}

// xdpInterface is the NIC whose packets are seen.
func xdpInterface(s *control.State) string {
	for _, p := range s.Planes {
		if p.Name == "xdp" && p.Interface != "" {
			return p.Interface
		}
	}
	return "director"
}

func (c captureCmd) request() api.ObserveRequest {
	r := api.ObserveRequest{
		Client: c.Client, Service: c.Service, Server: c.Server, Snap: c.Snaplen, Rate: c.Rate,
		In: c.Side != "out", Out: c.Side != "in",
	}
	if !c.All {
		r.Verdicts = observe.Taken()
	}
	return r
}

// capture writes packets until ctx ends; what it says of itself goes to notes.
func (c captureCmd) capture(ctx context.Context, out, notes io.Writer, ifname string) error {
	w, err := observe.NewPcapWriter(out, ifname, "systole "+version, c.Snaplen)
	if err != nil {
		return err
	}
	count, lost, err := packets(ctx, c.client(), c.request(), c.Count, func(l api.ObserveLine) error {
		if l.Start {
			fmt.Fprintf(notes, "capturing on %s, Ctrl-C ends it\n", ifname)
			return w.Flush()
		}
		if err := w.Write(l.Packet); err != nil {
			return err
		}
		return w.Flush()
	})
	err = errors.Join(err, w.Flush())
	fmt.Fprintf(notes, "%d packets%s\n", count, lossNote(lost))
	return err
}

// packets observes until ctx ends or count packets have come (0: for ever), and
// gives the beginning and each packet to each. Its end by ctx is a good one.
func packets(ctx context.Context, c *api.Client, r api.ObserveRequest, count int, each func(api.ObserveLine) error) (n int, lost observe.Lost, err error) {
	for l, err := range c.Observe(ctx, r) {
		switch {
		case errors.Is(err, context.Canceled):
			return n, lost, nil
		case err != nil:
			return n, lost, err
		case l.End != "":
			return n, lost, errors.New(l.End)
		case l.Lost != nil:
			lost = *l.Lost
			continue
		}
		if err := each(l); err != nil {
			return n, lost, err
		}
		if l.Packet == nil {
			continue
		}
		if n++; n == count {
			break
		}
	}
	return n, lost, nil
}

func lossNote(l observe.Lost) string {
	out := ""
	if l.Full > 0 {
		out += fmt.Sprintf(", %d lost because they came faster than they could be written (narrow the filter, or --snaplen)", l.Full)
	}
	if l.Rate > 0 {
		out += fmt.Sprintf(", %d left out by the limit (--rate)", l.Rate)
	}
	return out
}
