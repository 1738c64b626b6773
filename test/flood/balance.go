package flood

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// Balance accounts for every frame since the wire was made.
type Balance struct {
	Sent     uint64 // by all streams
	Received uint64 // of them, at a server
	// Overrun is how many found the ring of a veth full, in either direction: they
	// were lost between the programs. That happens when another CPU reads the ring
	// than the one that fills it (doc.go).
	Overrun uint64
}

// Lost is how many frames the director did not forward.
func (b Balance) Lost() int { return int(b.Sent) - int(b.Received) - int(b.Overrun) }

func (b Balance) String() string {
	return fmt.Sprintf("%d frames sent, %d lost (and %d by the wire)", b.Sent, b.Lost(), b.Overrun)
}

// settle is how long what is under way when the streams stand still may take.
const settle = time.Second

// Balance is taken while all streams stand still. It waits for what is under way.
func (w *Wire) Balance() (Balance, error) {
	for end := time.Now().Add(settle); ; time.Sleep(time.Millisecond) {
		b, err := w.balance()
		if err != nil || b.Lost() == 0 || time.Now().After(end) {
			return b, err
		}
	}
}

func (w *Wire) balance() (b Balance, err error) {
	t, err := w.Tally()
	if err != nil {
		return b, err
	}
	for _, s := range w.streams {
		n, err := s.Sent()
		if err != nil {
			return b, err
		}
		b.Sent += n
		b.Received += t.Received[s.id]
	}
	b.Overrun, err = w.overrun()
	return b, err
}

// overrun reads what the kernel counts at the director's device
// (drivers/net/veth.c, veth_get_stats64: peer_tq_xdp_xmit_err and xdp_tx_err);
// what a program drops on purpose is not among it.
func (w *Wire) overrun() (n uint64, err error) {
	err = w.Do(func() error {
		dev, err := netlink.LinkByName(Director)
		if err != nil {
			return err
		}
		st := dev.Attrs().Statistics
		n = st.RxDropped + st.TxDropped
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("what the wire lost: %w", err)
	}
	return n, nil
}
