package xdp

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// checkHash looks every key up as the program does.
func checkHash(t interface{ Fatalf(string, ...any) }, keys []uint64, buckets, size int) {
	shifts := make([]uint16, buckets)
	at := make([]int, len(keys))
	seed, err := perfectHash(keys, shifts, size, func(key, place int) { at[key] = place })
	if err != nil {
		t.Fatalf("%d keys: %v", len(keys), err)
	}
	owner := map[int]int{}
	for i, key := range keys {
		h := tableHash(key, seed)
		place := int((h ^ uint32(shifts[h>>16&uint32(buckets-1)])) & uint32(size-1))
		if place != at[i] {
			t.Fatalf("key %#x is at %d, the program looks at %d", key, at[i], place)
		}
		if j, taken := owner[place]; taken {
			t.Fatalf("keys %#x and %#x are both at %d", key, keys[j], place)
		}
		owner[place] = i
	}
}

func TestPerfectHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.Uint64Range(1, 1<<56-1), 0, 64, rapid.ID).Draw(t, "keys")
		checkHash(t, keys, 64, 128)
	})
}

// Full tables: as many virtual addresses and services as a snapshot may have,
// scattered and in a row.
func TestPerfectHashFull(t *testing.T) {
	for _, tt := range []struct{ n, buckets, size int }{
		{MaxVIPs, len(image{}.VipShift), len(image{}.Vips)},
		{MaxServices, len(image{}.ServiceShift), len(image{}.Services)},
	} {
		rnd := rand.New(rand.NewPCG(1, 2))
		for round := range 20 {
			keys := make([]uint64, tt.n)
			step := rnd.Uint64() >> 40
			for i := range keys {
				if round%2 == 0 {
					keys[i] = rnd.Uint64() >> 8
				} else {
					keys[i] = uint64(i)*(step|1) + 1
				}
			}
			checkHash(t, keys, tt.buckets, tt.size)
		}
	}
}

func TestPerfectHashOfEqualKeys(t *testing.T) {
	if _, err := perfectHash([]uint64{7, 7}, make([]uint16, 64), 128, func(int, int) {}); err == nil {
		t.Error("two equal keys have a perfect hash")
	}
}
