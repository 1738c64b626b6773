package scheduler

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFewest(t *testing.T) {
	for _, tt := range []struct {
		name      string
		weights   []uint32
		overheads []int64
		want      int
	}{
		{"lc", nil, nil, -1},
		{"lc", []uint32{0, 0}, []int64{0, 0}, -1},
		{"lc", []uint32{1, 1, 1}, []int64{0, 0, 0}, 0},
		{"lc", []uint32{1, 1, 1}, []int64{256, 0, 0}, 1},
		{"lc", []uint32{0, 1, 1}, []int64{0, 512, 511}, 2},
		{"lc", []uint32{1, 9}, []int64{256, 512}, 0},  // weights do not count
		{"lc", []uint32{1, 1}, []int64{257, 256}, 1},  // an inactive one does, a little
		{"wlc", []uint32{1, 9}, []int64{256, 512}, 1}, // 56.9 for each unit
		{"wlc", []uint32{1, 2}, []int64{256, 512}, 0}, // equal
		{"wlc", []uint32{2, 1}, []int64{0, 0}, 0},
		{"wlc", []uint32{1, 2}, []int64{0, 0}, 0}, // as IPVS: not the heavier one
		{"wlc", []uint32{0, 3, 0, 2}, []int64{0, 768, 0, 512}, 1},
		{"wlc", []uint32{3, 0, 2}, []int64{768, 0, 511}, 2},
		{"wlc", []uint32{0}, []int64{0}, -1},
	} {
		if got := Fewest(tt.name, weighing(tt.weights), tt.overheads); got != tt.want {
			t.Errorf("Fewest(%q, %v, %v) = %d, want %d", tt.name, tt.weights, tt.overheads, got, tt.want)
		}
	}
}

// Promise 7: nobody has less for its weight, and nobody before it as little.
func TestFewestIsTheFirstOfTheLeast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"lc", "wlc"}).Draw(t, "scheduler")
		weights := rapid.SliceOfN(rapid.Uint32Range(0, 8), 0, 20).Draw(t, "weights")
		overheads := rapid.SliceOfN(rapid.Int64Range(0, 2000), len(weights), len(weights)).Draw(t, "overheads")
		each := func(i int) float64 {
			if weights[i] == 0 {
				return math.Inf(1)
			}
			if name == "lc" {
				return float64(overheads[i])
			}
			return float64(overheads[i]) / float64(weights[i])
		}
		want := -1
		for i := range weights {
			// No two different quotients of these numbers are so close.
			if weights[i] > 0 && (want < 0 || each(i) < each(want)-1e-6) {
				want = i
			}
		}
		if got := Fewest(name, weighing(weights), overheads); got != want {
			t.Fatalf("%s of %v with weights %v: %d, want %d", name, overheads, weights, got, want)
		}
	})
}

// Connections that stay are shared by weight: nobody is more than one ahead.
func TestFewestSharesByWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Uint32Range(1, 20), 1, 10).Draw(t, "weights")
		servers := weighing(weights)
		overheads := make([]int64, len(servers))
		var sum uint32
		for _, w := range weights {
			sum += w
		}
		n := rapid.IntRange(0, 500).Draw(t, "connections")
		for range n {
			overheads[Fewest("wlc", servers, overheads)] += ActiveCost
		}
		for i, w := range weights {
			if got, share := float64(overheads[i])/ActiveCost, float64(n)*float64(w)/float64(sum); got > share+float64(w)+1 || got < share-float64(w)-1 {
				t.Fatalf("%d connections over weights %v: server %d has %v, its share is %.1f", n, weights, i, got, share)
			}
		}
	})
}

func TestOverhead(t *testing.T) {
	if got := Overhead(3, 7); got != 775 {
		t.Errorf("Overhead(3, 7) = %d, want 775", got)
	}
}

func TestWeights(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights []uint32
		want    []uint16
		err     error
	}{
		{"lc", []uint32{7, 0, 3}, []uint16{1, 1}, nil},
		{"lc", []uint32{math.MaxUint32, 1}, []uint16{1, 1}, nil},
		{"wlc", nil, nil, nil},
		{"wlc", []uint32{0}, nil, nil},
		{"wlc", []uint32{7, 0, 3}, []uint16{7, 3}, nil},
		{"wlc", []uint32{200, 0, 100}, []uint16{2, 1}, nil},
		{"wlc", []uint32{MaxWeight, 1}, []uint16{MaxWeight, 1}, nil},
		{"wlc", []uint32{2 * (MaxWeight + 1), 2}, nil, ErrTooHeavy},
		{"wlc", []uint32{1 << 20, 1 << 19}, []uint16{2, 1}, nil},
	} {
		servers := weighing(tt.weights)
		slots, err := Slots(tt.name, servers)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Weights(tt.name, servers, slots)
		if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
			t.Errorf("Weights(%q, %v) = %v, %v, want %v, %v", tt.name, tt.weights, got, err, tt.want, tt.err)
		}
	}
}
