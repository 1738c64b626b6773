package scheduler

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// weighing gives servers with these weights addresses of their own.
func weighing(weights []uint32) []Server {
	servers := make([]Server, len(weights))
	for i, w := range weights {
		servers[i] = Server{netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}), w}
	}
	return servers
}

func TestSlots(t *testing.T) {
	tests := []struct {
		name    string
		weights []uint32
		want    []int
	}{
		{"rr", nil, nil},
		{"rr", []uint32{0, 0}, nil},
		{"rr", []uint32{1, 1, 1}, []int{0, 1, 2}},
		{"rr", []uint32{5, 0, 1}, []int{0, 2}},
		{"wrr", nil, nil},
		{"wrr", []uint32{0}, nil},
		{"wrr", []uint32{7}, []int{0}},
		{"wrr", []uint32{4, 4}, []int{0, 1}},
		{"wrr", []uint32{5, 1, 1}, []int{0, 0, 1, 0, 2, 0, 0}},
		{"wrr", []uint32{200, 0, 100}, []int{0, 2, 0}},
		{"wrr", []uint32{math.MaxUint32, math.MaxUint32}, []int{0, 1}},
		{"sh", []uint32{2, 0, 1}, []int{0, 2, 0}},
		{"sh", nil, nil},
		{"lc", []uint32{5, 0, 1}, []int{0, 2}},
		{"wlc", []uint32{5, 0, 1}, []int{0, 2}},
		{"mh", []uint32{0}, nil},
		{"mh", []uint32{0, 9}, slices.Repeat([]int{1}, MaglevSlots)},
	}
	for _, tt := range tests {
		got, err := Slots(tt.name, weighing(tt.weights))
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("Slots(%q, %v) = %v, %v, want %v", tt.name, tt.weights, got, err, tt.want)
		}
	}
}

func TestBadSlots(t *testing.T) {
	tests := []struct {
		name    string
		weights []uint32
		want    error
	}{
		{"sed", []uint32{1}, ErrUnknown},
		{"", []uint32{1}, ErrUnknown},
		{"wrr", []uint32{MaxSlots, 1}, ErrTooManySlots},
		{"sh", []uint32{MaxSlots, 1}, ErrTooManySlots},
		{"mh", slices.Repeat([]uint32{1}, MaglevSlots+1), ErrTooManySlots},
		{"wrr", []uint32{math.MaxUint32, math.MaxUint32 - 1}, ErrTooManySlots},
		{"rr", slices.Repeat([]uint32{1}, MaxSlots+1), ErrTooManySlots},
	}
	for _, tt := range tests {
		if got, err := Slots(tt.name, weighing(tt.weights)); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("Slots(%q, %d weights) = %v, %v, want error %v", tt.name, len(tt.weights), got, err, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	if got, want := Names(), []string{"lc", "mh", "rr", "sh", "wlc", "wrr"}; !slices.Equal(got, want) {
		t.Errorf("Names() = %v, want %v", got, want)
	}
}

// Promise 3: exact over the cycle, and never more than one slot ahead.
func TestWeightedIsExactAndSmooth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Uint32Range(0, 60), 0, 12).Draw(t, "weights")
		slots, err := Slots("wrr", weighing(weights))
		if err != nil {
			t.Fatal(err)
		}
		var sum, divisor uint64
		for _, w := range weights {
			sum += uint64(w)
			divisor = gcd(divisor, uint64(w))
		}
		had := make([]uint64, len(weights))
		for step, s := range slots {
			had[s]++
			share := float64(step+1) * float64(weights[s]) / float64(sum)
			if float64(had[s]) >= share+1 {
				t.Fatalf("step %d: server %d had %d slots, its share is %.2f", step, s, had[s], share)
			}
		}
		for i, w := range weights {
			if sum > 0 && had[i] != uint64(w)/divisor {
				t.Fatalf("server %d of weight %d had %d slots, want %d", i, w, had[i], uint64(w)/divisor)
			}
		}
	})
}

// Promises 1 and 2.
func TestRoundRobinIsOneSlotEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Uint32(), 0, 50).Draw(t, "weights")
		name := rapid.SampledFrom([]string{"rr", "lc", "wlc"}).Draw(t, "scheduler")
		slots, err := Slots(name, weighing(weights))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSorted(slots) {
			t.Fatalf("not in the order given: %v", slots)
		}
		for i, w := range weights {
			if got := slices.Contains(slots, i); got != (w > 0) {
				t.Fatalf("server %d of weight %d has a slot: %v", i, w, got)
			}
		}
		if len(slices.Compact(slices.Clone(slots))) != len(slots) {
			t.Fatalf("a server has two slots: %v", slots)
		}
	})
}
