package driver

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"systole/hb"
)

// Whatever is pushed and popped: order is kept, only Reports are left out, each
// of them is counted, and memory is bounded.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := queue{limit: rapid.IntRange(2, 20).Draw(t, "limit")}
		var want []hb.Event // what must come out
		var leftOut, told, number int
		push := func(e hb.Event) {
			if q.push(e) {
				want = append(want, e)
			} else {
				if _, ok := e.(hb.Report); !ok {
					t.Fatalf("%v was left out", e)
				}
				leftOut++
			}
		}
		pop := func() {
			e := q.first()
			if e == nil {
				if len(want) != 0 {
					t.Fatalf("empty, want %v", want[0])
				}
				return
			}
			q.pop()
			if r, ok := e.(hb.Report); ok && strings.Contains(r.Text, "left out") {
				n, err := strconv.Atoi(strings.Fields(r.Text)[0])
				if err != nil {
					t.Fatal(err)
				}
				told += n
				return
			}
			if e != want[0] {
				t.Fatalf("got %v, want %v", e, want[0])
			}
			want = want[1:]
		}
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			number++
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				push(hb.Report{Text: strconv.Itoa(number)})
			case 2:
				if q.len()+1 < q.limit { // a Report may come with it
					push(hb.Lost{Node: "b", First: uint64(number)})
				}
			default:
				pop()
			}
			if q.len() > q.limit || q.overflown || cap(q.events) > 4*q.limit {
				t.Fatalf("%d of %d events, overflown %v, room for %d", q.len(), q.limit, q.overflown, cap(q.events))
			}
		}
		for q.first() != nil {
			pop()
		}
		push(hb.Joined{}) // lets the last Report out
		for q.first() != nil {
			pop()
		}
		if len(want) != 0 || told != leftOut {
			t.Fatalf("%d events missing, %d of %d Reports told as left out", len(want), told, leftOut)
		}
	})
}

func TestQueueOverflow(t *testing.T) {
	q := queue{limit: 4}
	for i := range 5 {
		if q.overflown {
			t.Fatalf("overflown after %d", i)
		}
		q.push(hb.Joined{})
	}
	if !q.overflown || q.len() != 4 {
		t.Errorf("%d events, overflown %v", q.len(), q.overflown)
	}
}
