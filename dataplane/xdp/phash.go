package xdp

import (
	"errors"
	"slices"
)

// errNoPerfectHash cannot happen with distinct keys that fill at most half of
// the table: each seed fails with a probability of about a quarter.
var errNoPerfectHash = errors.New("no perfect hash found for the keys")

// seedAttempts makes that impossible in practice: 0.25^64.
const seedAttempts = 64

// tableHash is table_hash of schedule.h.
func tableHash(key, seed uint64) uint32 {
	return uint32(key * seed >> 32)
}

// perfectHash searches a seed and fills shifts (one per bucket) so that every
// key has a place of its own in a table of the given size: hash and displace.
// It calls place with the index of each key and its place. Sizes are powers of
// two; shifts must be zero.
func perfectHash(keys []uint64, shifts []uint16, size int, place func(key, at int)) (seed uint64, err error) {
	return perfectHashes(len(keys), func(key int, seed uint64) uint32 { return tableHash(keys[key], seed) }, shifts, size, place)
}

// perfectHashes is the same for n keys of any kind: hash is what the program
// makes of one with a seed.
func perfectHashes(n int, hash func(key int, seed uint64) uint32, shifts []uint16, size int, place func(key, at int)) (seed uint64, err error) {
	hashes := make([]uint32, n)
	for attempt := range uint64(seedAttempts) {
		seed = splitmix(attempt) | 1
		for key := range hashes {
			hashes[key] = hash(key, seed)
		}
		if places := displace(hashes, shifts, size); places != nil {
			for key, at := range places {
				place(key, at)
			}
			return seed, nil
		}
		clear(shifts)
	}
	return 0, errNoPerfectHash
}

// displace gives every bucket, the fullest first, a shift that brings all its
// keys to free places. It returns the place of each key, nil if some bucket
// has none.
func displace(hashes []uint32, shifts []uint16, size int) []int {
	// Words are sorted, three times as fast as what they stand for: a key below
	// its bucket, and a bucket's first key below its length, the greatest first.
	keys := make([]uint64, len(hashes))
	for i, h := range hashes {
		keys[i] = uint64(h>>16&uint32(len(shifts)-1))<<32 | uint64(i)
	}
	slices.Sort(keys)
	var buckets []uint64
	for first := 0; first < len(keys); {
		end := first + 1
		for end < len(keys) && keys[end]>>32 == keys[first]>>32 {
			end++
		}
		buckets = append(buckets, uint64(len(keys)-(end-first))<<32|uint64(first))
		first = end
	}
	slices.Sort(buckets)

	taken := make([]bool, size)
	places := make([]int, len(hashes))
next:
	for _, b := range buckets {
		first := int(uint32(b))
		of := keys[first : first+len(keys)-int(b>>32)]
		for shift := range uint32(size) {
			if settle(hashes, of, shift, taken, places) {
				shifts[of[0]>>32] = uint16(shift)
				continue next
			}
		}
		return nil
	}
	return places
}

// settle takes the places of one bucket's keys under shift, all or none.
func settle(hashes []uint32, bucket []uint64, shift uint32, taken []bool, places []int) bool {
	for n, key := range bucket {
		at := int((hashes[uint32(key)] ^ shift) & uint32(len(taken)-1))
		if taken[at] {
			for _, earlier := range bucket[:n] {
				taken[places[uint32(earlier)]] = false
			}
			return false
		}
		taken[at] = true
		places[uint32(key)] = at
	}
	return true
}

// splitmix is one step of the SplitMix64 generator: the n-th of a sequence of
// well-mixed words. The seeds need not be secret, so the image of a snapshot is
// the same every time.
func splitmix(n uint64) uint64 {
	z := (n + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
