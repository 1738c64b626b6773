package scheduler

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func mustSlots(t interface{ Fatal(...any) }, name string, servers []Server) []int {
	slots, err := Slots(name, servers)
	if err != nil {
		t.Fatal(err)
	}
	return slots
}

func TestHashed(t *testing.T) {
	for name, want := range map[string]bool{"rr": false, "wrr": false, "sh": true, "mh": true, "": false} {
		if Hashed(name) != want {
			t.Errorf("Hashed(%q) = %v", name, !want)
		}
	}
}

// fleet draws servers with distinct addresses of both families.
func fleet(t *rapid.T, most int) []Server {
	addrs := rapid.SliceOfNDistinct(rapid.Uint32Range(1, 1<<20), 1, most, rapid.ID).Draw(t, "addresses")
	servers := make([]Server, len(addrs))
	for i, n := range addrs {
		b := [4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}
		servers[i].Addr = netip.AddrFrom4(b)
		if n%2 == 0 {
			servers[i].Addr = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: b[3], 14: b[2], 13: b[1]})
		}
		servers[i].Weight = rapid.Uint32Range(0, 20).Draw(t, "weight")
	}
	return servers
}

// Promise 4: the order in which a director lists the servers is no matter.
func TestHashTablesDoNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := fleet(t, 12)
		b := rapid.Permutation(a).Draw(t, "order")
		for _, name := range []string{"sh", "mh"} {
			x, y := mustSlots(t, name, a), mustSlots(t, name, b)
			if len(x) != len(y) {
				t.Fatalf("%s: %d slots and %d", name, len(x), len(y))
			}
			for i := range x {
				if a[x[i]].Addr != b[y[i]].Addr {
					t.Fatalf("%s: slot %d is %s or %s", name, i, a[x[i]].Addr, b[y[i]].Addr)
				}
			}
		}
	})
}

const maglevForEver = 0x8043b87eae0d7545

// Directors of different versions must agree: the table may never change.
func TestMaglevTableIsForEver(t *testing.T) {
	h := fnv.New64a()
	for _, s := range mustSlots(t, "mh", weighing([]uint32{1, 2, 3, 0, 5})) {
		h.Write([]byte{byte(s)})
	}
	if got := h.Sum64(); got != maglevForEver {
		t.Errorf("the table's hash is %#x, want %#x", got, uint64(maglevForEver))
	}
}

func shares(n int, slots []int) []int {
	had := make([]int, n)
	for _, s := range slots {
		had[s]++
	}
	return had
}

// Promise 6: each has its share.
func TestMaglevShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		servers := fleet(t, 20)
		sum, _ := divisor(servers)
		slots := mustSlots(t, "mh", servers)
		for i, n := range shares(len(servers), slots) {
			w := uint64(servers[i].Weight)
			if w == 0 {
				if n != 0 {
					t.Fatalf("a quiesced server has %d slots", n)
				}
				continue
			}
			want := float64(MaglevSlots) * float64(w) / float64(sum)
			if diff := float64(n) - want; diff > MaglevSlots/20 || diff < -MaglevSlots/20 {
				t.Fatalf("server %d of weight %d of %d has %d slots, its share is %.0f", i, w, sum, n, want)
			}
		}
	})
}

// Promise 6: when one of n equal servers goes, its slots are what changes. The
// paper finds less than one slot in ten besides, for tables 100 times as long
// as the list of servers.
func TestMaglevDisruption(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		servers := fleet(t, 20)
		if len(servers) < 2 {
			return
		}
		for i := range servers {
			servers[i].Weight = 1
		}
		gone := rapid.IntRange(0, len(servers)-1).Draw(t, "gone")
		before := mustSlots(t, "mh", servers)
		less := slices.Clone(servers)
		less[gone].Weight = 0
		after := mustSlots(t, "mh", less)
		moved := 0
		for i, s := range before {
			if s != gone && after[i] != s {
				moved++
			}
		}
		if moved > MaglevSlots/4 {
			t.Fatalf("one of %d servers went, and %d of %d slots of the others moved", len(servers), moved, MaglevSlots)
		}
	})
}

// Promise 5.
func TestSourceHashShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		servers := fleet(t, 12)
		_, d := divisor(servers)
		for i, n := range shares(len(servers), mustSlots(t, "sh", servers)) {
			if w := uint64(servers[i].Weight); d > 0 && uint64(n) != w/d {
				t.Fatalf("server %d of weight %d has %d slots, want %d", i, w, n, w/d)
			}
		}
	})
}
