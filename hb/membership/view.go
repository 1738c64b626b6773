package membership

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ID tells views apart: no two views of different members have the same.
type ID struct {
	Number      uint64 // grows at every node
	Generation  uint64 // of the coordinator: after a restart it may give a number again
	Coordinator string // the node that made the view
}

// String is the form of the messages: number:generation:coordinator.
func (id ID) String() string {
	return strconv.FormatUint(id.Number, 10) + ":" + strconv.FormatUint(id.Generation, 10) + ":" + id.Coordinator
}

// View is who is in the cluster, as agreed.
type View struct {
	ID
	Members []string // in order of their names, ourselves included
	Old     []string // those of them that take no part in the agreement
	// Quorum: this part of the cluster may hold resources; with Settled it may
	// also take those of nodes that are not in it. See the package's promise 4.
	Quorum  bool
	Settled bool
	Why     string // Quorum in words
}

// String is the view in a few words.
func (v View) String() string {
	s := fmt.Sprintf("view %d of %s: %s; %s", v.Number, v.Coordinator, strings.Join(v.Members, " "), v.Why)
	if v.Quorum && !v.Settled {
		s += "; not settled"
	}
	return s
}

// Has: node is a member.
func (v View) Has(node string) bool { return has(v.Members, node) }

func (v View) equal(w View) bool {
	return v.ID == w.ID && v.Quorum == w.Quorum && v.Settled == w.Settled && v.Why == w.Why && slices.Equal(v.Old, w.Old)
}

// has looks a name up in a sorted list.
func has(sorted []string, name string) bool {
	_, ok := slices.BinarySearch(sorted, name)
	return ok
}
