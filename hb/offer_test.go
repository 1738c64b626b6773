package hb

import (
	"errors"
	"fmt"
	"testing"

	"systole/hb/wire"
)

// However many messages programs offer, takeover can still speak; and once the
// peer has acknowledged, so can they.
func TestOfferLeavesRoomForSubmit(t *testing.T) {
	c := joined(t, testConfig())
	offer := func() (n int, last uint64) {
		for {
			seq, err := c.Offer(testTime, wire.New("note"))
			if err != nil {
				if !errors.Is(err, ErrFlow) || seq != 0 {
					t.Fatalf("number %d, %v", seq, err)
				}
				return n, last
			}
			n++
			last = seq
		}
	}
	offered, last := offer()
	if v := c.Snapshot(testTime); offered == 0 || v.Unacked != offerLimit+1 || v.Seq != last {
		t.Errorf("%d offered, the last is %d; %d of %d unacknowledged", offered, last, v.Unacked, v.Seq)
	}
	submitted := 0
	for c.Submit(testTime, wire.New("resource")) == nil {
		submitted++
	}
	if submitted != flowLimit-offerLimit {
		t.Errorf("%d submitted beside them, want %d", submitted, flowLimit-offerLimit)
	}
	c.Receive(testTime, "eth0", nodeB(t).packet(0, "NS_ackmsg", "dest", "a", "ackseq", fmt.Sprintf("%x", c.Snapshot(testTime).Seq)))
	if n, _ := offer(); n != offerLimit+1 {
		t.Errorf("%d offered after the acknowledgement, want %d", n, offerLimit+1)
	}
	if _, err := c.Offer(testTime, wire.New("status")); !errors.Is(err, ErrFlow) {
		t.Errorf("no room: %v", err)
	}
	c.Stop(testTime)
	if _, err := c.Offer(testTime, wire.New("note")); !errors.Is(err, ErrStopped) {
		t.Errorf("after Stop: %v", err)
	}
}
