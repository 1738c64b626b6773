package xdp

import (
	"cmp"
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
	bucket := func(key int) uint32 { return hashes[key] >> 16 & uint32(len(shifts)-1) }
	keys := make([]int, len(hashes)) // those of one bucket in a row
	for i := range keys {
		keys[i] = i
	}
	slices.SortFunc(keys, func(a, b int) int { return cmp.Or(cmp.Compare(bucket(a), bucket(b)), cmp.Compare(a, b)) })
	var buckets [][]int
	for rest := keys; len(rest) > 0; {
		n := 1
		for n < len(rest) && bucket(rest[n]) == bucket(rest[0]) {
			n++
		}
		buckets, rest = append(buckets, rest[:n]), rest[n:]
	}
	slices.SortStableFunc(buckets, func(a, b []int) int { return cmp.Compare(len(b), len(a)) })

	taken := make([]bool, size)
	places := make([]int, len(hashes))
next:
	for _, b := range buckets {
		for shift := range uint32(size) {
			if settle(hashes, b, shift, taken, places) {
				shifts[bucket(b[0])] = uint16(shift)
				continue next
			}
		}
		return nil
	}
	return places
}

// settle takes the places of one bucket's keys under shift, all or none.
func settle(hashes []uint32, bucket []int, shift uint32, taken []bool, places []int) bool {
	for n, i := range bucket {
		at := int((hashes[i] ^ shift) & uint32(len(taken)-1))
		if taken[at] {
			for _, j := range bucket[:n] {
				taken[places[j]] = false
			}
			return false
		}
		taken[at] = true
		places[i] = at
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
