package carry

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/ipvs"
	"systole/dataplane/planetest"
)

func flows(n int) []dataplane.Flow {
	out := make([]dataplane.Flow, n)
	for i := range out {
		out[i].Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 40000)
	}
	return out
}

// Every connection is inserted once, in order; those that are stored count.
func TestInsert(t *testing.T) {
	for _, n := range []int{0, 1, insertPart, 2*insertPart + 7} {
		var got []dataplane.Flow
		stored, err := insert(t.Context(), slices.Values(flows(n)), func(part []dataplane.Flow) (int, int, error) {
			got = append(got, part...)
			return (len(part) + 1) / 2, 0, nil
		})
		if err != nil || !slices.Equal(got, flows(n)) || stored < n/2 || stored > n/2+3 {
			t.Errorf("%d: %d inserted, %d stored, %v", n, len(got), stored, err)
		}
	}
}

func TestInsertEnds(t *testing.T) {
	closed := errors.New("closed")
	if n, err := insert(t.Context(), slices.Values(flows(insertPart)), func([]dataplane.Flow) (int, int, error) { return 9, 0, closed }); n != 9 || !errors.Is(err, closed) {
		t.Error(n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	parts := 0
	n, err := insert(ctx, slices.Values(flows(3*insertPart)), func(p []dataplane.Flow) (int, int, error) {
		parts++
		cancel()
		return len(p), 0, nil
	})
	if parts != 1 || n != insertPart || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "the rest stays in ipvs") {
		t.Error(parts, n, err)
	}
}

// Those that find no room are told, each part's.
func TestInsertIntoAFullTable(t *testing.T) {
	const n = 2*insertPart - 1
	stored, err := insert(t.Context(), slices.Values(flows(n)), func(p []dataplane.Flow) (int, int, error) {
		return len(p) - 5, 3, nil
	})
	if stored != n-10 || err == nil || !strings.HasPrefix(err.Error(), "6 connections stay in ipvs: they found no room") {
		t.Error(stored, err)
	}
}

func TestFeedOf(t *testing.T) {
	f, err := feedOf(ipvs.Daemon{Role: ipvs.SyncBackup, Interface: "eth0", SyncID: 5, Group: netip.MustParseAddr("239.1.1.1"), Port: 9000, MaxLen: 1472})
	if err != nil || f.Interface != "eth0" || f.SyncID != 5 || f.Group.String() != "239.1.1.1:9000" || f.MaxLen != 1472 {
		t.Errorf("%+v, %v", f, err)
	}
	f, err = feedOf(ipvs.Daemon{Role: ipvs.SyncBackup, Interface: "lo"})
	if err != nil || f.Group.String() != "224.0.0.81:8848" || f.MaxLen != maxMessage {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err = feedOf(ipvs.Daemon{Interface: "eth0", Group: netip.MustParseAddr("ff02::1")}); err == nil || !strings.Contains(err.Error(), "listens to ff02::1") {
		t.Error(err)
	}
}

func TestOtherPlanes(t *testing.T) {
	fake := planetest.NewFake(time.Now)
	if _, err := Between(slog.New(slog.DiscardHandler))(t.Context(), fake, fake); err == nil || !strings.Contains(err.Error(), "cannot be carried from *planetest.Fake") {
		t.Error(err)
	}
}

func TestArrived(t *testing.T) {
	if err := arrived(5, 7); err != nil {
		t.Error(err)
	}
	if err := arrived(5, 4); err == nil || !strings.Contains(err.Error(), "5 connections were sent to ipvs, and it has 4") {
		t.Error(err)
	}
}

// Templates are counted, for IPVS does not count them as connections; and those
// of ranges and of two families stay, each time the flows are listed.
func TestSayable(t *testing.T) {
	all := flows(6)
	all[1].State, all[3].State, all[4].State = dataplane.FlowTemplate, dataplane.FlowTemplate, dataplane.FlowTemplate
	all[4].Service.LastPort = 90
	all = append(all, all[1])
	all[6].Server = netip.MustParseAddr("2001:db8::1")
	var templates int
	seq := sayable(slices.Values(all), &templates)
	for range 2 {
		if got := slices.Collect(seq); !slices.Equal(got, append(slices.Clone(all[:4]), all[5])) || templates != 2 {
			t.Errorf("%d templates in %+v", templates, got)
		}
	}
}
