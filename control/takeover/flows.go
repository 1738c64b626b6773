package takeover

// flowsChanged takes the news of the flow table at the peer. They may come
// before it is heard to be alive.
func (m *Machine) flowsChanged(in Flows) { m.flowsThere = in.There }

// flowsLost: the peer died, or began anew, and its flow table with it.
func (m *Machine) flowsLost() { m.flowsThere, m.flowsAwaited = false, false }

// awaitsFlows: an auto failback that could be done has to wait for the flow
// table. An operator's order has not: there is the second chance, too.
func (m *Machine) awaitsFlows() bool {
	if !m.cfg.AwaitFlows || !m.peerSystole || m.flowsThere {
		return false
	}
	if !m.flowsAwaited {
		m.flowsAwaited = true
		m.info("%s gets its groups back when it has the flow table", m.cfg.Peer)
	}
	return true
}
