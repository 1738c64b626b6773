package membership

import (
	"errors"
	"fmt"
	"slices"
)

// Kind is how a quorum is counted.
type Kind uint8

const (
	// None: every view has quorum. Both sides of a partition serve.
	None Kind = iota
	// Majority: more than half of the configured nodes.
	Majority
	// Weight: nodes with more than half of the weight of all. A node whose
	// weight is not given has 1.
	Weight
	// TieBreaker: more than half of the weight of all, or exactly half of it and
	// the tie-breaker: a preferred node, which must be among them, or
	// something else that must be seen, such as a ping node.
	TieBreaker
)

// Rule says which part of a cluster has the quorum. It must be the same at
// every node.
type Rule struct {
	Kind       Kind
	Weights    map[string]uint32 // by node, for Weight and TieBreaker; default 1
	TieBreaker string            // a node, or anything else that Machine.TieBreaker tells of
}

// ErrConfig is wrapped by the errors of New; the text names the field.
var ErrConfig = errors.New("membership configuration")

func (r Rule) check(nodes []string) error {
	switch {
	case r.Kind > TieBreaker:
		return fmt.Errorf("%w: Rule.Kind %d is unknown", ErrConfig, r.Kind)
	case r.Kind != Weight && r.Kind != TieBreaker && len(r.Weights) > 0:
		return fmt.Errorf("%w: Rule.Weights have no effect with this kind", ErrConfig)
	case (r.Kind == TieBreaker) != (r.TieBreaker != ""):
		return fmt.Errorf("%w: Rule.TieBreaker is for the kind of this name, and needed there", ErrConfig)
	case r.total(nodes) == 0:
		return fmt.Errorf("%w: Rule.Weights: the nodes weigh nothing together: no part of them could have quorum", ErrConfig)
	}
	return nil
}

// votes of one node.
func (r Rule) votes(node string) uint64 {
	if w, ok := r.Weights[node]; ok {
		return uint64(w)
	}
	return 1
}

func (r Rule) total(nodes []string) (n uint64) {
	for _, name := range nodes {
		n += r.votes(name)
	}
	return n
}

// judge says whether these nodes have the quorum among all votes, and why.
// seen: the tie-breaker is seen, if it is no node.
func (r Rule) judge(nodes []string, all uint64, tieIsNode, seen bool) (bool, string) {
	if r.Kind == None {
		return true, "quorum is not asked for"
	}
	n := r.total(nodes)
	votes := fmt.Sprintf("%d of %d votes", n, all)
	switch {
	case 2*n > all:
		return true, "quorum with " + votes
	case r.Kind != TieBreaker || 2*n < all:
		return false, "no quorum with " + votes
	case tieIsNode && slices.Contains(nodes, r.TieBreaker):
		return true, fmt.Sprintf("quorum with %s and the preferred node %s", votes, r.TieBreaker)
	case tieIsNode:
		return false, fmt.Sprintf("no quorum with %s and without the preferred node %s", votes, r.TieBreaker)
	case seen:
		return true, fmt.Sprintf("quorum with %s and the tie-breaker %s", votes, r.TieBreaker)
	}
	return false, fmt.Sprintf("no quorum with %s while the tie-breaker %s is not seen", votes, r.TieBreaker)
}
