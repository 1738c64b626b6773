package config

import "slices"

// maxWitnesses makes sixteen nodes with two directors: as many as the simulation
// of whole clusters goes up to (test/sim).
const maxWitnesses = 14

// witnesses reads cluster.witnesses: nodes that are members of the cluster and
// vote for the quorum, but are no directors.
func (d *decoder) witnesses(m *mapping, f *facts) []string {
	l := m.list("witnesses")
	f.members = slices.Clone(f.nodes)
	if l.bad {
		f.nodesGood = false
	}
	var names []string
	for i, n := range l.items {
		name := readNode(d, n, "witnesses", l.at, nodeName)
		switch {
		case name.bad:
			f.nodesGood = false
			continue
		case slices.Contains(f.nodes, name.val):
			d.errorf(name.at, "witnesses: %s is a director, and votes anyway: name it in one place", name.val)
			f.nodesGood = false
			continue
		case slices.Contains(names, name.val):
			d.errorf(name.at, "witnesses: %s is named twice: each witness has its own name", name.val)
			f.nodesGood = false
			continue
		case i == maxWitnesses:
			d.errorf(name.at, "witnesses: more than %d: name fewer; sixteen nodes are the most", maxWitnesses)
		}
		names = append(names, name.val)
	}
	f.members = append(f.members, names...)
	return names
}

// orWitnesses completes "is not among nodes" where there are witnesses.
func (f *facts) orWitnesses() string {
	if len(f.members) > len(f.nodes) {
		return " and witnesses"
	}
	return ""
}

// Members are all nodes of the cluster: the directors, then the witnesses.
func (c Cluster) Members() []string { return slices.Concat(c.Nodes, c.Witnesses) }

// Witness tells whether this node is a witness: it takes part in the heartbeat
// and in the quorum, and has no use for groups, services and the data plane.
func (c *Config) Witness() bool { return slices.Contains(c.Cluster.Witnesses, c.Node) }

// Own is what of the configuration is for this node: all of it on a director;
// on a witness there are no groups, no services and no data plane, nor what is
// there for their sake.
func (c *Config) Own() *Config {
	if !c.Witness() {
		return c
	}
	own := *c
	own.Groups, own.Services, own.DataPlane, own.Sync = nil, nil, DataPlane{}, nil
	own.Cluster.Addresses = nil
	return &own
}
