package metrics

import "systole/control"

var (
	syncPeer     = desc("sync_peer", "1 if the other director takes part in flow synchronisation.")
	syncInSync   = desc("sync_in_sync", "1 if the other director has confirmed our whole flow table.")
	syncComplete = desc("sync_complete", "1 if we have the other director's whole flow table.")
	syncLag      = desc("sync_lag_seconds", "Age of the oldest message of flow synchronisation that is not confirmed.")
	syncFlows    = desc("sync_flows_total", "Flows carried, by direction: those stored, if received.", "direction")
	syncBytes    = desc("sync_bytes_total", "UDP payload of flow synchronisation.", "direction")
	syncMessages = desc("sync_messages_total", "Messages of flow synchronisation that counted.", "direction")
	syncDropped  = desc("sync_dropped_total", "What was lost or did not count: flows refused, or without room; messages missed, bad, unsigned, replayed.", "why")
	syncResent   = desc("sync_resent_flows_total", "Flows sent again, because the other director had missed them.")
)

func (r renderer) sync(s *control.State) {
	st := s.Sync
	if st == nil {
		return
	}
	r.gauge(syncPeer, flag(st.Peer))
	r.gauge(syncInSync, flag(st.InSync))
	r.gauge(syncComplete, flag(st.Complete))
	r.gauge(syncLag, st.Lag.Seconds())
	r.counter(syncFlows, st.Sent.Flows, "sent")
	r.counter(syncFlows, st.Received.Flows, "received")
	r.counter(syncBytes, st.Sent.Bytes, "sent")
	r.counter(syncBytes, st.Received.Bytes, "received")
	r.counter(syncMessages, st.Sent.Messages, "sent")
	r.counter(syncMessages, st.Received.Messages, "received")
	r.counter(syncDropped, st.Refused, "refused")
	r.counter(syncDropped, st.NoRoom, "no_room")
	r.counter(syncDropped, st.Missed, "missed")
	r.counter(syncDropped, st.Bad, "bad")
	r.counter(syncDropped, st.Unsigned, "unsigned")
	r.counter(syncDropped, st.Replayed, "replayed")
	r.counter(syncResent, st.Resent)
}
